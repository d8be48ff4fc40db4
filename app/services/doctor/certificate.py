"""Checks of the certificate that nginx really serves."""

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509

from app.services.doctor.facts import Certificate
from app.services.doctor.result import CheckResult, fail, ok, unchecked, warn

FAIL_DAYS, WARN_DAYS = 7, 21
_CHECKS = ("certificate", "certificate-names", "certificate-chain", "certificate-file")
# What OpenSSL says of a chain (x509_vfy.h, X509_V_ERR_…).
_TRUSTED, _SELF_SIGNED, _OWN_CA, _NO_ISSUER = "0", "18", "19", ("2", "20", "21", "27")


def results(facts: Certificate, domains: str | None, now: datetime, *, nginx_runs: bool) -> list[CheckResult]:
    """Return what there is to say of the certificate: its days, names, chain, and the files."""
    try:
        served = _read(facts.served)
    except ValueError:
        served = []
    if not served:
        zh, en = "HTTPS 端口没有给出证书", "the HTTPS port serves no certificate"
        if not nginx_runs:
            return [unchecked(check, "nginx 未运行", "nginx does not run") for check in _CHECKS]
        return [fail(_CHECKS[0], zh, f"{en[0].upper()}{en[1:]}"), *(unchecked(check, zh, en) for check in _CHECKS[1:])]
    return [
        _days(served[0], now),
        _names(served[0], domains),
        _chain(served, facts),
        _file(served, facts),
    ]


def _read(pem: str | None) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode()) if pem else []


def _days(leaf: x509.Certificate, now: datetime) -> CheckResult:
    end = leaf.not_valid_after_utc
    left = end - now
    zh, en = f"至 {end:%Y-%m-%d}，还有 {left.days} 天", f"good until {end:%Y-%m-%d}, {left.days} days"
    renewal = "请查看 certbot renew 的输出", "look at what certbot renew says"
    if left <= timedelta():
        return fail(
            "certificate", f"已于 {end:%Y-%m-%d} 过期：{renewal[0]}", f"Expired on {end:%Y-%m-%d}: {renewal[1]}"
        )
    if leaf.not_valid_before_utc > now:
        start = f"{leaf.not_valid_before_utc:%Y-%m-%d}"
        return fail("certificate", f"{start} 才生效：时钟有误？", f"Not valid before {start}: is the clock wrong?")
    if left < timedelta(days=WARN_DAYS):
        judged = fail if left < timedelta(days=FAIL_DAYS) else warn
        return judged("certificate", f"{zh}：{renewal[0]}", f"{en[0].upper()}{en[1:]}: {renewal[1]}")
    return ok("certificate", zh, f"{en[0].upper()}{en[1:]}")


def _names(leaf: x509.Certificate, domains: str | None) -> CheckResult:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return fail("certificate-names", "证书中没有名称（SAN）", "It names nothing (no subjectAltName)")
    hosts = [name.lower() for name in alternative.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    wanted = (domains or "").split()
    missing = [name for name in wanted if not _named(name.lower(), hosts, addresses)]
    listed = ", ".join([*hosts, *addresses])
    if missing:
        zh, en = "证书不含", "It does not name"
        return fail(
            "certificate-names",
            f"{zh} {', '.join(missing)}（仅有 {listed}）",
            f"{en} {', '.join(missing)}, only {listed}",
        )
    if not wanted:
        return ok(
            "certificate-names",
            f"{listed}（在 .env 中设 KADUN_DOMAIN 后会核对）",
            f"{listed} (with KADUN_DOMAIN in .env it is compared)",
        )
    return ok("certificate-names", f"含 {', '.join(wanted)}", f"It names {', '.join(wanted)}")


def _named(name: str, hosts: list[str], addresses: list[str]) -> bool:
    try:
        return str(ipaddress.ip_address(name)) in addresses
    except ValueError:
        # A star stands for one label, the first (RFC 9525, section 6.3).
        return name in hosts or f"*.{name.partition('.')[2]}" in hosts


def _chain(served: list[x509.Certificate], facts: Certificate) -> CheckResult:
    check = "certificate-chain"
    if facts.verified == _TRUSTED:
        return ok(
            check, f"完整，{len(served)} 张，受公开信任", f"Complete, {len(served)} certificates, publicly trusted"
        )
    if facts.verified == _SELF_SIGNED:
        return warn(
            check,
            "自签名：浏览器会警告，程序须以 ca_file 内置此证书；有域名后请运行 scripts/issue-certificate.sh",
            "Self-signed: browsers warn, and programs must ship it as their ca_file; "
            "with a domain, scripts/issue-certificate.sh gets a trusted one",
        )
    if facts.verified == _OWN_CA:
        return warn(
            check, "由私有 CA 签发：程序须内置该 CA", "Of a private CA: programs must ship that CA as their ca_file"
        )
    if facts.verified in _NO_ISSUER and not facts.trust_store:
        return unchecked(check, "本机没有 ca-certificates", "this machine has no ca-certificates")
    if facts.verified in _NO_ISSUER:
        return fail(
            check,
            "证书链不完整，或由私有 CA 签发：fullchain.pem 须含中间证书",
            "Incomplete, or of a private CA that is not in it: fullchain.pem must hold all that comes between",
        )
    return fail(check, f"OpenSSL 不接受（{facts.verified}）", f"OpenSSL refuses it (verify error {facts.verified})")


def _file(served: list[x509.Certificate], facts: Certificate) -> CheckResult:
    check = "certificate-file"
    try:
        on_disk = _read(facts.file)
    except ValueError:
        on_disk = []
    if not on_disk:
        return fail(
            check,
            "https_certificates/fullchain.pem 缺失或无法解读：nginx 下次启动会失败",
            "https_certificates/fullchain.pem is missing or unreadable: nginx will not start again",
        )
    if on_disk != served:
        return fail(
            check,
            "正在使用的证书不是 https_certificates/ 中的那张：执行 docker compose exec nginx nginx -s reload",
            "What is served is not what lies in https_certificates/: docker compose exec nginx nginx -s reload",
        )
    if facts.key_matches is False:
        return fail(check, "privkey.pem 与证书不匹配", "privkey.pem does not belong to it: nginx will not start again")
    if facts.key_matches is None:
        return unchecked(check, "无法读取 privkey.pem（请用 root 运行）", "privkey.pem cannot be read (try as root)")
    return ok(check, "与 https_certificates/ 中的一致", "The same as in https_certificates/, with its key")
