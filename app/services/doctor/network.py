"""Checks of the network: open ports, the firewall, and whether the app sees the client's address."""

import contextlib
import ipaddress
import re
from collections.abc import Collection, Iterator
from http import HTTPStatus
from itertools import product
from typing import NamedTuple

from app.domain.addresses import canonical_address
from app.services.doctor.facts import Facts, HostFacts
from app.services.doctor.results import CheckResult, NotCheckedError, fail, ok, warn

_HARMLESS = {"68/udp", "546/udp"}  # answers to this machine's own DHCP client
# Docker's own rules for published ports precede UFW's; without the userland proxy the engine itself holds the port.
_NOT_FILTERED_BY_UFW = {"docker-proxy", "dockerd"}
_DENIES = re.compile(r"^Default: (deny|reject) \(incoming\)", re.MULTILINE)
# A rule of `ufw status verbose` that lets everybody in: to where, and what "where" may be.
_RULE = re.compile(r"^(?P<to>\S.*?)\s{2,}(?:ALLOW|LIMIT)(?: IN)?\s+Anywhere")
# Rules of `nft list table inet kadun`, for connections held and for new ones: to which ports, and for which family.
_HELD_RULE = re.compile(r"tcp dport (\{[^}]*\}|\d+) ct state new add @\w+ \{ (ip6?) saddr .*ct count over \d+ \}")
_NEW_RULE = re.compile(
    r"tcp dport (\{[^}]*\}|\d+) tcp flags .* update @\w+ \{ (ip6?) saddr .*limit rate over \d+/second "
)
_PORTS = re.compile(r"(?P<ports>[0-9:,]+)(?:/(?P<protocol>tcp|udp))?(?: \(.+\))?(?: on \S+)?")


class Listener(NamedTuple):
    """A socket that other machines may reach, as far as its address goes."""

    port: int
    protocol: str
    program: str
    ipv6: bool

    @property
    def name(self) -> str:
        """The usual spelling, `5000/tcp`."""
        return f"{self.port}/{self.protocol}"


def ports(facts: Facts) -> CheckResult:
    """Check that other machines reach nothing but SSH and nginx, because nothing else listens or UFW blocks it.

    What another Compose project on this machine publishes is that project's business, and so are the ports of another
    Kadun's nginx: they are named.
    """
    host = facts.host
    if host.sockets is None:
        raise NotCheckedError("没有 ss（iproute2）", "there is no ss (iproute2)")
    expected = {f"{port}/tcp" for port in (host.ssh_ports or "").split()} | _HARMLESS
    expected |= {f"{_port(host, 'KADUN_HTTP_PORT', 80)}/tcp", f"{_port(host, 'KADUN_HTTPS_PORT', 443)}/tcp"}
    words = re.split(r"[\s,]+", host.setting("KADUN_DOCTOR_PORTS"))
    expected |= {word if "/" in word else f"{word}/tcp" for word in words if word}
    others = {s for s in _listeners(host) if s.name not in expected and s.program not in ("sshd", "sshd-session")}
    theirs = {listener for listener in others if listener.name in host.other_stacks}
    others -= theirs
    shielded = {listener for listener in others if _is_shielded(host, listener)}
    if exposed := others - shielded:
        return fail(
            f"对外开放了其他端口：{_list(exposed)}。请关闭、改听 127.0.0.1，有意为之则写入 .env：KADUN_DOCTOR_PORTS",
            f"Open to the world besides SSH and nginx: {_list(exposed)}. Stop it, bind it to 127.0.0.1, "
            "or add it to KADUN_DOCTOR_PORTS in .env if it is intended",
        )
    zh, en = "对外只有 SSH 与 nginx", "Only SSH and nginx listen for the world"
    if shielded:
        zh, en = f"UFW 挡住了 {_list(shielded)}", f"UFW blocks {_list(shielded)}"
    if theirs:
        listed = ", ".join(sorted({f"{s.name} {host.other_stacks[s.name]}" for s in theirs}))
        zh, en = f"{zh}；其他 Compose 项目的端口：{listed}", f"{en}; ports of other Compose projects: {listed}"
    return ok(zh, en)


def _port(host: HostFacts, name: str, default: int) -> int:
    text = host.setting(name)
    return int(text) if text.isdecimal() else default


def _list(listeners: set[Listener]) -> str:
    return ", ".join(f"{s.name} {s.program}".strip() for s in sorted(listeners))


def _listeners(host: HostFacts) -> Iterator[Listener]:
    """Yield what listens on other addresses than this machine's loopback and the engine's bridges, from `ss`."""
    for line in (host.sockets or "").splitlines():
        protocol, _, _, _, local, *more = line.split()
        address, _, port = local.rpartition(":")
        address = address.strip("[]").partition("%")[0].rstrip("]")
        if address in host.bridges:
            continue
        is_ipv6 = True  # "*": both families
        if address != "*":
            parsed = ipaddress.ip_address(address)
            mapped = getattr(parsed, "ipv4_mapped", None) or parsed
            if mapped.is_loopback or mapped.is_link_local:
                continue
            is_ipv6 = isinstance(mapped, ipaddress.IPv6Address)
        program = re.search(r'\(\("([^"]+)"', more[-1]) if more else None
        yield Listener(int(port), protocol, program[1] if program else "", is_ipv6)


def _is_shielded(host: HostFacts, listener: Listener) -> bool:
    """Tell whether UFW is on and none of its rules lets everybody reach this listener."""
    if not host.ufw or not _denies_by_default(host.ufw) or listener.program in _NOT_FILTERED_BY_UFW:
        return False
    if listener.ipv6 and host.ipv6_unfiltered:
        return False
    rules = (_RULE.match(line) for line in host.ufw.splitlines())
    return not any(_lets_in(rule["to"], listener) for rule in rules if rule is not None)


def _denies_by_default(ufw: str) -> bool:
    return "Status: active" in ufw and _DENIES.search(ufw) is not None


def _lets_in(to: str, listener: Listener) -> bool:
    rule = _PORTS.fullmatch(to)
    if rule is None:
        return True  # a kind of rule that we do not know
    if rule["protocol"] not in (None, listener.protocol):
        return False
    spans = (span.partition(":") for span in rule["ports"].split(","))
    return any(int(low) <= listener.port <= int(high or low) for low, _, high in spans)


def firewall(facts: Facts) -> CheckResult:
    """Check that UFW is active and denies by default."""
    host = facts.host
    if host.ufw is None:
        raise NotCheckedError("请用 root 查询 UFW", "only root can ask UFW")
    if not _denies_by_default(host.ufw):
        return warn(
            "UFW 未启用或默认放行：若云服务商的安全组已限制端口则无妨，否则运行 scripts/provision.sh",
            "UFW is inactive or allows by default: fine behind a security group, else run scripts/provision.sh",
        )
    if host.ipv6_unfiltered:
        return warn(
            "UFW 不管 IPv6（/etc/default/ufw 中 IPV6=no）：请运行 scripts/provision.sh",
            "UFW does not filter IPv6 (IPV6=no in /etc/default/ufw): run scripts/provision.sh",
        )
    return ok("UFW 已启用，默认拒绝", "UFW is active and denies by default")


def connection_limits(facts: Facts) -> CheckResult:
    """Check that the host's firewall limits the connections of one address to nginx's ports."""
    host = facts.host
    if host.connection_limits is None:
        raise NotCheckedError("请用 root 查询 nftables", "only root can ask nftables")
    wanted = {_port(host, "KADUN_HTTP_PORT", 80), _port(host, "KADUN_HTTPS_PORT", 443)}
    limited = {
        (rule, family): {int(port) for port in re.findall(r"\d+", ports)}
        for rule in (_HELD_RULE, _NEW_RULE)
        for ports, family in rule.findall(host.connection_limits)
    }
    if any(not wanted <= limited.get(key, set()) for key in product((_HELD_RULE, _NEW_RULE), ("ip", "ip6"))):
        return warn(
            "没有限制单个地址到 nginx 的连接数，一个地址就能占满：请运行 scripts/provision.sh",
            "Nothing limits the connections of one address to nginx, and one address can take all: "
            "run scripts/provision.sh",
        )
    return ok("单个地址到 nginx 的连接数有上限", "The connections of one address to nginx are limited")


def _proxy_networks(host: HostFacts) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for word in re.split(r"[\s,]+", host.setting("KADUN_PROXY_FROM").strip()):
        with contextlib.suppress(ValueError):  # which `env_values` reports
            networks.append(ipaddress.ip_network(word, strict=False))
    return networks


def _is_balancers(
    address: str, own: Collection[str], networks: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> bool:
    """Tell whether a request of this machine's own seems to have come from a balancer.

    Its own address may be translated to a public one on the way, never to another private one.
    """
    found = ipaddress.ip_address(address)
    return any(found in network for network in networks) or (not found.is_global and address not in own)


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
    found = [
        (probe, canonical_address(ip))
        for probe in host.proxy
        if (ip := recorded.get(probe.reference or "")) is not None
    ]
    pairs = [(canonical_address(probe.address), taken) for probe, taken in found if not probe.is_by_name]
    wrong = ", ".join(f"{true} → {taken}" for true, taken in pairs if true != taken)
    if wrong:
        return fail(
            f"应用记录的不是客户地址（实际 → 记录）：{wrong}。绑定失去意义，请恢复 nginx/ 中的配置",
            f"The app records another address than the client's (true → recorded): {wrong}. "
            "Bindings do not work this way: restore the configuration in nginx/",
        )
    named = {probe.host: taken for probe, taken in found if probe.is_by_name}
    own = {true for true, _ in pairs} | {canonical_address(probe.address) for probe, _ in found if probe.is_by_name}
    for name, taken in named.items():
        if _is_balancers(taken, own, _proxy_networks(host)):
            return fail(
                f"经 {name} 的请求记录为负载均衡的地址 {taken}：请在负载均衡上启用 PROXY 协议，"
                "并设置 KADUN_PROXY_PROTOCOL 与 KADUN_PROXY_FROM，否则所有客户同一个地址",
                f"A request to {name} is recorded with the balancer's address, {taken}: "
                "switch PROXY protocol on there, and set KADUN_PROXY_PROTOCOL and KADUN_PROXY_FROM, "
                "or all clients have one address",
            )
    if found:
        listed = ", ".join(
            [*sorted({true for true, _ in pairs}), *(f"{name}: {taken}" for name, taken in named.items())]
        )
        return ok(f"应用看到的是客户地址（{listed}）", f"The app sees the client's own address ({listed})")
    app = host.container("app")
    is_healthy = app is not None and app.state == "running" and app.health == "healthy"
    catalog = facts.database.catalog
    if facts.database.missing_rights or catalog is None or catalog.is_harmful:
        raise NotCheckedError("数据库结构或权限不符", "the database's schema or rights are not as they should be")
    if is_healthy and any(probe.status == HTTPStatus.SERVICE_UNAVAILABLE for probe in host.proxy):
        return fail(
            "应用答复 503：nginx 没有给出唯一有效的客户地址（X-Real-IP），见 docker compose logs app",
            "The app answers 503: nginx does not send one valid X-Real-IP; see docker compose logs app",
        )
    if host.proxy:
        raise NotCheckedError(
            "本机请求过多，未入日志", "too many recent requests from this machine, so that the journal has no entry"
        )
    raise NotCheckedError("nginx 没有响应", "nginx does not answer")
