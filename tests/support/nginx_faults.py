"""Faults of a running stack's nginx, which are healed afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.service import wait_for
from tests.support.stack import Stack, run
from tests.support.stack_changes import rewritten


@contextmanager
def certificate(stack: Stack, name: str, *, days: int, served: bool) -> Iterator[None]:
    """Replace the certificate by another self-signed one, and have nginx load it or not."""
    folder = stack.folder / "https_certificates"
    files = [folder / "fullchain.pem", folder / "privkey.pem"]
    before = [file.read_bytes() for file in files]
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files[0].write_bytes(made.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    try:
        if served:
            reload_nginx(stack)
            wait_for(lambda: _served(stack) == made)
        yield
    finally:
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)
        reload_nginx(stack)
        wait_for(lambda: _served(stack) == x509.load_pem_x509_certificate(before[0]))


def _served(stack: Stack) -> x509.Certificate:
    command = ("openssl", "s_client", "-connect", f"127.0.0.1:{stack.https_port}")
    return x509.load_pem_x509_certificate(run(*command, input="").stdout.encode())


@contextmanager
def nginx_sends(stack: Stack, old: str, new: str) -> Iterator[None]:
    """Change what nginx sends to the app."""
    file = stack.folder / "nginx/kadun/proxy.conf"
    text = file.read_text()
    assert old in text
    try:
        with rewritten(file, text.replace(old, new)):
            _reloaded(stack)
            yield
    finally:
        _reloaded(stack)


def _reloaded(stack: Stack) -> None:
    """Reload nginx, and wait until its workers are new ones."""

    def workers() -> set[int]:
        return {pid for pid, status in stack.processes("nginx") if "0" not in status["Uid"].split()}

    before = wait_for(workers)
    reload_nginx(stack)
    wait_for(lambda: (now := workers()) and not now & before)


def reload_nginx(stack: Stack) -> None:
    stack.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
