"""The check of the proxy: whether the app sees the client's address."""

import contextlib
import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus

from app.domain.addresses import canonical_address
from app.services.system.doctor.facts import Facts, HostFacts
from app.services.system.doctor.results import CheckResult, NotCheckedError, fail, ok


def proxy(facts: Facts) -> CheckResult:
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
    """Tell whether a request of this machine's own seems to have come from a balancer.

    Its own address may be translated to a public one on the way, never to another private one.
    """
    found = ipaddress.ip_address(address)
    for word in re.split(r"[\s,]+", host.setting("KADUN_PROXY_FROM")):
        with contextlib.suppress(ValueError):  # nginx does not start with such a word
            if found in ipaddress.ip_network(word, strict=False):
                return True
    return not found.is_global and address not in own
