"""Signs and verifies the manifests of archives with the server's signing keys, data/keys/keyring.json.

A signature is a JWS (`typ` `archive+jwt`, `aud` `kadun-archive`: no verdict) over the manifest's SHA-256. The public
keys and the endorsements of the key ring go along: from one key of the chain a reader finds the later ones.
Runs with the host's python3 (3.10 or newer), whose library has no Ed25519, and with `openssl`.
"""

import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TYPE, AUDIENCE = "archive+jwt", "kadun-archive"
ENDORSEMENT_TYPE, ENDORSEMENT_AUDIENCE = "key+jwt", "kadun-client"
ALGORITHM = "EdDSA"
# RFC 8410: what precedes the 32 bytes of an Ed25519 key in DER.
_PRIVATE_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")
_KEY_BYTES = 32

Keys = dict[str, bytes]
"""Public keys by their RFC 7638 thumbprints."""


class SignatureError(Exception):
    """The archive has no signature that counts here. The message says what to do."""


@dataclass(frozen=True)
class Trust:
    """Whose archives are accepted: those signed by a key of the key ring here, or of the chain of a fingerprint.

    A fingerprint is a key's ID (`kid`). `unsigned` accepts archives without a signature.
    """

    keyring: Path | None = None
    fingerprints: list[str] = field(default_factory=list)
    unsigned: bool = False


def current_kid(keyring: Path) -> str:
    """Return the fingerprint of the key that signs: the last but one of the ring."""
    return str(_ring(keyring)["keys"][-2]["public"]["kid"])


def sign(manifest: bytes, keyring: Path) -> bytes:
    """Return the signature of a manifest.

    Raises:
        SignatureError: the key ring cannot be read, or openssl fails.
    """
    ring = _ring(keyring)
    signer = ring["keys"][-2]
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": signer["public"]["kid"]}
    claims = {"aud": AUDIENCE, "iat": int(time.time()), "sha256": hashlib.sha256(manifest).hexdigest()}
    signed = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    done = _openssl(("-sign",), _PRIVATE_PREFIX + _decode(signer["private"]), signed.encode())
    if done.returncode:
        raise SignatureError(f"无法签名 openssl cannot sign: {done.stderr.decode(errors='replace').strip()}")
    public = [key["public"]["x"] for key in ring["keys"]]
    token = f"{signed}.{_encode(done.stdout)}"
    return json.dumps({"token": token, "keys": public, "endorsements": ring["endorsements"]}).encode()


def require(manifest: bytes, signature: bytes | None, trust: Trust) -> None:
    """Check that a manifest may be believed.

    Raises:
        SignatureError: it may not.
    """
    if signature is None:
        if not trust.unsigned:
            raise SignatureError(
                "没有签名：出自旧版本，或来路不明；确知来源时加 --accept-unsigned "
                "It is not signed: an older version made it, or somebody else did. If you know where it comes from: "
                "--accept-unsigned"
            )
        return
    try:
        parts = json.loads(signature)
        token, carried = parts["token"], {_thumbprint(raw): raw for raw in map(_decode, parts["keys"])}
        kid = _read(token)[0]["kid"]
        here = {key["public"]["kid"]: _decode(key["public"]["x"]) for key in _ring(trust.keyring)["keys"]}
        known = here | {name: carried[name] for name in trust.fingerprints if name in carried}
        _follow(parts["endorsements"], known)
        is_known, is_good = kid in known, _is_good(token, known | carried, TYPE, AUDIENCE)
        claims = _read(token)[1]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError(f"签名无法解读 its signature cannot be read: {error}") from error
    if not is_good or claims.get("sha256") != hashlib.sha256(manifest).hexdigest():
        raise SignatureError(
            "清单在签名之后被改动 its manifest was changed after it was signed, or the signature is forged"
        )
    if not is_known:
        raise SignatureError(
            f"签名的密钥 {kid} 不属于本机：与 export.sh 打印的指纹（或原服务器上 cardctl key list）核对，"
            f"一致时加 --fingerprint {kid} It is signed by key {kid}, which is not one of this server's. Compare it "
            f"with what export.sh printed, or cardctl key list on the old server. If they agree: --fingerprint {kid}"
        )


def _follow(endorsements: Iterable[str], known: Keys) -> None:
    """Add the keys that the known ones endorse; the ring's order is the chain's."""
    for endorsement in endorsements:
        if _is_good(endorsement, known, ENDORSEMENT_TYPE, ENDORSEMENT_AUDIENCE):
            raw = _decode(_read(endorsement)[1]["jwk"]["x"])
            known[_thumbprint(raw)] = raw


def _is_good(token: str, keys: Keys, kind: str, audience: str) -> bool:
    """Return whether one of the keys signed the token, and for this purpose."""
    header, claims = _read(token)
    key = keys.get(str(header.get("kid")))
    if key is None or (header.get("alg"), header.get("typ"), claims.get("aud")) != (ALGORITHM, kind, audience):
        return False
    signed, _, signature = token.rpartition(".")
    return _openssl(("-verify", "-pubin"), _PUBLIC_PREFIX + key, signed.encode(), _decode(signature)).returncode == 0


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(_decode(header)), json.loads(_decode(claims))


def _ring(keyring: Path | None) -> dict[str, Any]:
    if keyring is None or not keyring.exists():
        return {"keys": []}
    try:
        ring: dict[str, Any] = json.loads(keyring.read_bytes())
    except (OSError, ValueError) as error:
        raise SignatureError(f"无法读取签名密钥 cannot read the signing keys {keyring}: {error}") from error
    return ring


def _openssl(options: tuple[str, ...], key: bytes, data: bytes, *more: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run `openssl pkeyutl` with everything in memory: no private key touches the disk or a command line."""
    files = [os.memfd_create("kadun") for _ in (key, data, *more)]
    try:
        for file, content in zip(files, (key, data, *more), strict=True):
            os.write(file, content)
        paths = [f"/dev/fd/{file}" for file in files]
        command = ("openssl", "pkeyutl", *options, "-inkey", paths[0], "-keyform", "DER", "-rawin", "-in", paths[1])
        signature = ("-sigfile", paths[2]) if more else ()
        return subprocess.run((*command, *signature), check=False, capture_output=True, pass_fds=files)
    except FileNotFoundError as error:
        raise SignatureError("openssl is missing: install it first (apt-get install openssl)") from error
    finally:
        for file in files:
            os.close(file)


def _thumbprint(raw: bytes) -> str:
    if len(raw) != _KEY_BYTES:
        raise ValueError("not an Ed25519 key")
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _encode(raw)}, separators=(",", ":"))
    return _encode(hashlib.sha256(jwk.encode()).digest())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
