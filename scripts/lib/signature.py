"""Signs the manifests of archives with the service's signing keys, data/keys/keyring.json, and verifies them.

The manifest's `signature` has a JWS (`typ` `archive+jwt`, `aud` `kadun-archive`) over the SHA-256 of everything else in
the manifest, and the public keys and endorsements of the key ring: from one key of the chain a reader finds later ones.
Runs with the host's python3 (3.10 or newer), whose library has no Ed25519, and with openssl (3.0 or newer).
"""

import base64
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifest import ArchiveError, Manifest
from regular import content_of

TYPE, AUDIENCE = "archive+jwt", "kadun-archive"
ENDORSEMENT_TYPE, ENDORSEMENT_AUDIENCE = "key+jwt", "kadun-client"
ALGORITHM = "EdDSA"
# RFC 8410: what precedes the 32 bytes of an Ed25519 key in DER.
_PRIVATE_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")
_KEY_BYTES = 32
_MAX_KEYRING_BYTES = 1 << 20
_MAX_ENDORSEMENTS = 1000
_NO_KEYS_HERE = (
    "data/keys/ 中没有可用的签名密钥：有副本时请先放回。",
    "data/keys/ holds no usable signing keys: if you have a copy, put it back first. ",
)

Keys = dict[str, bytes]
"""Raw public keys by their RFC 7638 thumbprints."""


class SignatureError(ArchiveError):
    """The archive has no signature that counts here, or cannot be signed. The message says what to do."""


@dataclass(frozen=True)
class Trust:
    """Whose archives are accepted: those signed by a key of the chain of the key ring here, or of a fingerprint.

    A fingerprint is the ID (`kid`) of any key of the chain. `unsigned` accepts archives without a signature.
    """

    keyring: Path
    fingerprints: tuple[str, ...] = ()
    unsigned: bool = False


def sign(manifest: Manifest, keyring: Path) -> Manifest:
    """Return the signature of a manifest by the current key.

    Raises:
        SignatureError: the key ring cannot be read, or openssl cannot sign with it.
    """
    try:
        ring = _ring(keyring)
        signer = ring["keys"][-2]
        private = _PRIVATE_PREFIX + _decode(signer["private"])
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": signer["public"]["kid"]}
        chain = {"keys": [key["public"]["x"] for key in ring["keys"]], "endorsements": ring["endorsements"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SignatureError(f"无法使用签名密钥 cannot use the signing keys {keyring}: {error}") from error
    claims = {"aud": AUDIENCE, "sha256": _digest(manifest)}
    signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
    done = _openssl("-sign", private, signed.encode())
    if done.returncode:
        raise SignatureError(f"openssl 无法签名 cannot sign: {' '.join(done.stderr.decode(errors='replace').split())}")
    return {"token": f"{signed}.{_encode(done.stdout)}", **chain}


def fingerprint(keyring: Path) -> str:
    """Return the ID of the current key, once a signature by it was verified.

    Raises:
        SignatureError: it cannot sign.
    """
    signature = sign({}, keyring)
    require({"signature": signature}, Trust(keyring))
    return str(_read(signature["token"])[0]["kid"])


def require(manifest: Manifest, trust: Trust) -> None:
    """Check that somebody trusted has signed a manifest.

    Raises:
        SignatureError: nobody has.
    """
    if "signature" not in manifest:
        if not trust.unsigned:
            raise SignatureError(
                "没有签名，无法确认由谁制作：可能出自旧版本，也可能被人替换过。确知它从未离开您的手中时，加 "
                "--accept-unsigned。It is not signed, so nothing shows who made it: an older version of Kadun did, or "
                "somebody who put it in the place of yours. If you know that it has never left your hands, add "
                "--accept-unsigned"
            )
        return
    try:
        here = _keys_in(trust.keyring)
        signer, is_trusted, is_genuine = _judged(manifest, here, trust.fingerprints)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError("签名无法解读。Its signature cannot be read") from error
    if not is_trusted:
        lost = ("", "") if here else _NO_KEYS_HERE
        raise SignatureError(
            f"{lost[0]}签名的密钥 {signer} 不属于本机的服务。请与 export.sh 打印的指纹、原服务器上的 cardctl key list "
            f"或您的程序内置公钥的 kid 核对：一致时加 --fingerprint {signer}，不一致则是别人制作的。"
            f"{lost[1]}It is signed by key {signer}, which is not one of this server's. Compare it with the fingerprint"
            " that export.sh printed, with cardctl key list on the old server, or with the kid of a public key in your"
            f" programs. If they agree, add --fingerprint {signer}; if not, somebody else made it"
        )
    if not is_genuine:
        raise SignatureError(
            "签名不符：签名之后被人改动，或签名是伪造的。Its signature does not match: somebody changed it after it "
            "was signed, or forged the signature"
        )


def _judged(manifest: Manifest, here: Keys, fingerprints: tuple[str, ...]) -> tuple[str, bool, bool]:
    """Return which key signed a manifest, whether that is trusted, and if so whether the signature is genuine."""
    parts = manifest["signature"]
    carried = {_thumbprint(raw): raw for raw in map(_decode, parts["keys"])}
    trusted = {kid: raw for kid, raw in carried.items() if kid in fingerprints} | here
    if len(parts["endorsements"]) > _MAX_ENDORSEMENTS:  # each takes a process of openssl
        raise ValueError("too many endorsements")
    for endorsement in parts["endorsements"]:  # in the order of the chain
        if _is_signed(endorsement, trusted, ENDORSEMENT_TYPE, ENDORSEMENT_AUDIENCE):
            raw = _decode(_read(endorsement)[1]["jwk"]["x"])
            trusted[_thumbprint(raw)] = raw
    header, claims = _read(parts["token"])
    if header["kid"] not in carried:  # it is shown to a person, and may be anything
        raise ValueError("an unknown key")
    is_genuine = _is_signed(parts["token"], trusted, TYPE, AUDIENCE) and claims["sha256"] == _digest(manifest)
    return header["kid"], header["kid"] in trusted, is_genuine


def _is_signed(token: str, keys: Keys, kind: str, audience: str) -> bool:
    """Return whether one of the keys signed the token, and for this purpose."""
    header, claims = _read(token)
    key = keys.get(header["kid"])
    if key is None or (header["alg"], header["typ"], claims["aud"]) != (ALGORITHM, kind, audience):
        return False
    signed, _, signature = token.rpartition(".")
    return _openssl("-verify", _PUBLIC_PREFIX + key, signed.encode(), _decode(signature)).returncode == 0


def _keys_in(keyring: Path) -> Keys:
    """Return the public keys of a key ring: none where it is missing or cannot be read."""
    try:
        raws = [_decode(key["public"]["x"]) for key in _ring(keyring)["keys"]]
        return {_thumbprint(raw): raw for raw in raws}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _ring(keyring: Path) -> Any:  # noqa: ANN401  # the service, which may have been taken over, can write anything there
    return json.loads(content_of(keyring, _MAX_KEYRING_BYTES))


def _digest(manifest: Manifest) -> str:
    """Return the SHA-256 of everything but the signature, in one spelling."""
    rest = {name: part for name, part in manifest.items() if name != "signature"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _openssl(action: str, key: bytes, data: bytes, *signature: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run `openssl pkeyutl` with everything in memory: no private key is on the disk or on a command line."""
    contents = (key, data, *signature)
    files = [os.memfd_create("kadun") for _ in contents]
    try:
        for file, content in zip(files, contents, strict=True):
            os.write(file, content)
        paths = [f"/dev/fd/{file}" for file in files]
        command = ["openssl", "pkeyutl", action, "-keyform", "DER", "-inkey", paths[0], "-rawin", "-in", paths[1]]
        if signature:
            command += ["-pubin", "-sigfile", paths[2]]
        return subprocess.run(command, check=False, capture_output=True, pass_fds=files)
    except FileNotFoundError as error:
        raise SignatureError("openssl is missing: install it first (apt-get install openssl)") from error
    finally:
        for file in files:
            os.close(file)


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(_decode(header)), json.loads(_decode(claims))


def _thumbprint(raw: bytes) -> str:
    if len(raw) != _KEY_BYTES:
        raise ValueError("not an Ed25519 key")
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _encode(raw)}, separators=(",", ":"))
    return _encode(hashlib.sha256(jwk.encode()).digest())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
