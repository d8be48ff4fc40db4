"""Checks of what customers reach: the certificate that nginx serves, and whether the app sees their address."""

import contextlib
import ipaddress
import re
from collections.abc import Collection
from datetime import timedelta
from http import HTTPStatus

from cryptography import x509

from app.domain.addresses import canonical_address
from app.services.system.doctor.facts import AllFacts, HostFacts
from app.services.system.doctor.results import CheckResult, NotCheckedError, fail, ok, warn


def proxy(facts: AllFacts) -> CheckResult:
    """Check that the app sees the client's address, not the gateway's, whatever the client writes into its headers.

    The host requested a card that cannot exist, from addresses of its own that it knows, with forged headers; the
    journal tells which address the app recorded.
    """
    host, service = facts.host, facts.service
    if not service.behind_proxy:
        return fail(
            "KADUN_BEHIND_PROXY 不是 true：应用看不到客户地址",
            "KADUN_BEHIND_PROXY is not true: the app cannot see the client's address",
        )
    if facts.database.schema_found != service.schema_expected:
        raise NotCheckedError("数据库结构不符", "the database has another schema")
    recorded = facts.database.recorded
    found = [(probe, canonical_address(ip)) for probe in host.proxy if (ip := recorded.get(probe.reference or ""))]
    if not found:
        return _of_none(host)
    wrong = ", ".join(
        f"{probe.address} → {taken}"
        for probe, taken in found
        if not probe.is_by_name and canonical_address(probe.address) != taken
    )
    if wrong:
        return fail(
            f"应用记录的不是客户地址（实际 → 记录）：{wrong}。绑定失去意义，请恢复 nginx/ 中的配置",
            f"The app records another address than the client's (true → recorded): {wrong}. "
            "Bindings do not work this way: restore the configuration in nginx/",
        )
    own = {canonical_address(probe.address) for probe, _ in found}
    for probe, taken in found:
        if probe.is_by_name and _is_balancers(taken, own, host):
            return fail(
                f"经 {probe.host} 的请求记录为负载均衡的地址 {taken}：请在负载均衡上启用 PROXY 协议，"
                "并设置 KADUN_PROXY_PROTOCOL 与 KADUN_PROXY_FROM，否则所有客户同一个地址",
                f"A request to {probe.host} is recorded with the balancer's address, {taken}: "
                "switch PROXY protocol on there, and set KADUN_PROXY_PROTOCOL and KADUN_PROXY_FROM, "
                "or all clients have one address",
            )
    listed = ", ".join(f"{probe.host}: {taken}" for probe, taken in found)
    return ok(f"应用看到的是客户地址（{listed}）", f"The app sees the client's own address ({listed})")


def _of_none(host: HostFacts) -> CheckResult:
    if host.serves("app") and any(probe.status == HTTPStatus.SERVICE_UNAVAILABLE for probe in host.proxy):
        return fail(
            "应用答复 503：可能是 nginx 没有给出唯一有效的客户地址（X-Real-IP），见 docker compose logs app",
            "The app answers 503: perhaps nginx does not send one valid X-Real-IP; see docker compose logs app",
        )
    if host.proxy:
        raise NotCheckedError(
            "本机请求过多，未入日志", "too many recent requests from this machine, so that the journal has no entry"
        )
    raise NotCheckedError("nginx 没有响应", "nginx does not answer")


def _is_balancers(address: str, own: Collection[str], host: HostFacts) -> bool:
    """Tell whether a request from here seems a balancer's; NAT may make it public, never another private one."""
    found = ipaddress.ip_address(address)
    for word in re.split(r"[\s,]+", host.setting("KADUN_PROXY_FROM")):
        with contextlib.suppress(ValueError):  # nginx does not start with such a word
            if found in ipaddress.ip_network(word, strict=False):
                return True
    return not found.is_global and address not in own


FAIL_DAYS, WARN_DAYS = 7, 21
# OpenSSL's verify return codes (x509_vfy.h, X509_V_ERR_…).
_TRUSTED, _SELF_SIGNED, _PRIVATE_CA, _NO_ISSUER = "0", "18", "19", ("2", "20", "21", "27")


def certificate(facts: AllFacts) -> CheckResult:
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


def certificate_names(facts: AllFacts) -> CheckResult:
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


def certificate_chain(facts: AllFacts) -> CheckResult:
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
