"""Certificates that a program ships, to be trusted for TLS."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from urllib3.util.ssl_ import create_urllib3_context

_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)  # ssl.VERIFY_X509_PARTIAL_CHAIN, which has its name since Python 3.10


def files_of(ca_file: str | os.PathLike[str]) -> list[Path]:
    """Return the PEM files that `ca_file` names: itself, or those in a folder, `*.pem`."""
    path = Path(ca_file)
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"ca_file {ca_file} is a folder without a *.pem file")
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"ca_file {ca_file} does not exist")
        try:
            context([file])
        except ssl.SSLError as error:
            raise ValueError(f"ca_file: {file} contains no certificate in PEM, or a damaged one") from error
    return files


def context(files: list[Path]) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates in these files, each by itself."""
    made = create_urllib3_context()
    # Otherwise OpenSSL looks up a self-signed certificate by its subject, and of two with one subject trusts only one.
    made.verify_flags |= _PARTIAL_CHAIN
    for file in files:
        made.load_verify_locations(file)
    return made
