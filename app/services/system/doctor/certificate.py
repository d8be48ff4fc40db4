"""Checks of the certificate that nginx serves."""

import ipaddress
import re
from datetime import timedelta

from cryptography import x509

from app.services.system.doctor.facts import Facts, HostFacts
from app.services.system.doctor.results import CheckResult, NotCheckedError, fail, ok, warn

FAIL_DAYS, WARN_DAYS = 7, 21
# OpenSSL's verify return codes (x509_vfy.h, X509_V_ERR_…).
_TRUSTED, _SELF_SIGNED, _PRIVATE_CA, _NO_ISSUER = "0", "18", "19", ("2", "20", "21", "27")


def certificate(facts: Facts) -> CheckResult:
    """Check that a certificate is served, and how long it is valid."""
    host = facts.host
    chain = _served(host)
    if not chain:
        return fail(
            "HTTPS 端口没有给出证书：见 docker compose logs nginx",
            "The HTTPS port serves no certificate: see docker compose logs nginx",
        )
    leaf = chain[0]
    end = leaf.not_valid_after_utc
    left = end - host.now
    zh, en = f"至 {end:%Y-%m-%d}，还有 {left.days} 天", f"Valid until {end:%Y-%m-%d}, {left.days} days"
    renewal_zh, renewal_en = "请查看 certbot renew 的输出", "see the output of certbot renew"
    if left <= timedelta():
        return fail(f"已于 {end:%Y-%m-%d} 过期：{renewal_zh}", f"Expired on {end:%Y-%m-%d}: {renewal_en}")
    if leaf.not_valid_before_utc > host.now:
        start = f"{leaf.not_valid_before_utc:%Y-%m-%d}"
        return fail(f"{start} 才生效：时钟有误？", f"Not valid before {start}: is the clock wrong?")
    if left < timedelta(days=WARN_DAYS):
        result = fail if left < timedelta(days=FAIL_DAYS) else warn
        return result(f"{zh}：{renewal_zh}", f"{en}: {renewal_en}")
    return ok(zh, en)


def certificate_names(facts: Facts) -> CheckResult:
    """Check that the certificate has each name of KADUN_DOMAIN."""
    leaf = _chain(facts.host)[0]
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return fail("证书中没有名称（SAN）", "The certificate has no names (subjectAltName)")
    hosts = [name.lower() for name in alternative.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    listed = ", ".join([*hosts, *addresses])
    wanted = re.split(r"[\s,\"]+", facts.host.setting("KADUN_DOMAIN").strip(' ,"'))
    if wanted == [""]:
        return ok(
            f"{listed}（在 .env 中设 KADUN_DOMAIN 后会核对）",
            f"{listed} (set KADUN_DOMAIN in .env to have the names checked)",
        )
    missing = ", ".join(name for name in wanted if not _is_named(name.lower(), hosts, addresses))
    if missing:
        return fail(f"证书不含 {missing}（仅有 {listed}）", f"The certificate lacks {missing}; it has only {listed}")
    return ok(f"含 {', '.join(wanted)}", f"It has {', '.join(wanted)}")


def _is_named(name: str, hosts: list[str], addresses: list[str]) -> bool:
    try:
        return str(ipaddress.ip_address(name)) in addresses
    except ValueError:
        # A star stands for one label, the first (RFC 9525, section 6.3).
        return name in hosts or f"*.{name.partition('.')[2]}" in hosts


def certificate_chain(facts: Facts) -> CheckResult:
    """Check that the chain is complete and leads to an authority that this machine trusts."""
    host = facts.host
    count = len(_chain(host))
    found = re.search(r"Verify return code: (\d+)", host.tls_handshake or "")
    code = found[1] if found else None
    if code == _TRUSTED:
        return ok(f"完整，{count} 张，受公开信任", f"Complete, {count} certificates, publicly trusted")
    if code == _SELF_SIGNED:
        return warn(
            "自签名：浏览器会警告；请在发布程序之前备好域名并运行 scripts/issue-certificate.sh，"
            "否则程序须以 ca_file 内置此证书，并加 public_cas=True",
            "Self-signed: browsers warn. Get a domain and run scripts/issue-certificate.sh before you ship programs; "
            "otherwise they must have it as their ca_file, with public_cas=True",
        )
    if code == _PRIVATE_CA:
        return warn(
            "由私有 CA 签发：程序须内置该 CA", "Issued by a private CA: programs must ship that CA as their ca_file"
        )
    if code in _NO_ISSUER and not host.trust_store:
        raise NotCheckedError("本机没有 ca-certificates", "this machine has no ca-certificates")
    if code in _NO_ISSUER:
        return fail(
            "证书链不完整，或由私有 CA 签发：fullchain.pem 须含中间证书",
            "Incomplete, or issued by an unknown private CA: fullchain.pem must contain the intermediate certificates",
        )
    return fail(f"OpenSSL 不接受（{code}）", f"OpenSSL refuses it (verify error {code})")


def _chain(host: HostFacts) -> list[x509.Certificate]:
    chain = _served(host)
    if not chain:
        raise NotCheckedError("HTTPS 端口没有给出证书", "the HTTPS port serves no certificate")
    return chain


def _served(host: HostFacts) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates((host.tls_handshake or "").encode())
    except ValueError:
        if host.serves("nginx"):
            return []
        raise NotCheckedError("nginx 未正常运行", "nginx does not run, or is not healthy") from None
