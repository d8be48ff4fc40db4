"""Certificates that a program ships, to be trusted for TLS."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from urllib3.util.ssl_ import create_urllib3_context

if TYPE_CHECKING:
    import os

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)  # ssl.VERIFY_X509_PARTIAL_CHAIN, which has its name since Python 3.10


def files_of(ca_file: str | os.PathLike[str]) -> list[Path]:
    """Return the PEM files that `ca_file` names: itself, or those in a folder, `*.pem`."""
    path = Path(ca_file)
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"ca_file {ca_file} is a folder without a *.pem file")
    if not path.exists():
        raise FileNotFoundError(f"ca_file {ca_file} does not exist")
    return files


def read(files: list[Path]) -> str:
    """Return the certificates in these files, in PEM."""
    found = []
    for file in files:
        certificates = "\n".join(_CERTIFICATE.findall(file.read_text("utf-8", "replace")))
        try:
            context(certificates)
        except (ValueError, TypeError) as error:  # ssl.SSLError is a ValueError; text beyond ASCII is a TypeError
            raise ValueError(f"ca_file: {file} contains no certificate in PEM, or a damaged one") from error
        found.append(certificates)
    return "\n".join(found)


def context(certificates: str) -> ssl.SSLContext:
    """Return a TLS context that trusts these certificates, in PEM, each by itself."""
    made = create_urllib3_context()
    # Otherwise OpenSSL looks up a self-signed certificate by its subject, and of two with one subject trusts only one.
    made.verify_flags |= _PARTIAL_CHAIN
    made.load_verify_locations(cadata=certificates)
    return made
