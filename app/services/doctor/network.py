"""Checks of the network: what listens for the world, the firewall, and whose address the app sees."""

import base64
import ipaddress
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

from app.domain.addresses import canonical_address
from app.services.doctor.facts import Ask, HostFacts, InsideFacts
from app.services.doctor.host import is_healthy
from app.services.doctor.result import CheckResult, fail, ok, unchecked, warn

_HARMLESS = {"68/udp", "546/udp"}  # answers to this machine's own DHCP client
# What Docker publishes goes round UFW by rules of its own; without the userland proxy the engine itself holds the port.
_ROUND_UFW = {"docker-proxy", "dockerd"}
_DENIES = re.compile(r"^Default: (deny|reject) \(incoming\)", re.MULTILINE)
# A rule of `ufw status verbose` that lets everybody in: to where, and what "where" may be.
_RULE = re.compile(r"^(?P<to>\S.*?)\s{2,}(?:ALLOW|LIMIT)(?: IN)?\s+Anywhere")
_PORTS = re.compile(r"(?P<ports>[0-9:,]+)(?:/(?P<protocol>tcp|udp))?(?: \(.+\))?(?: on \S+)?")


class Listener(NamedTuple):
    """A socket that the world may reach, as far as its address goes."""

    port: int
    protocol: str
    program: str
    ipv6: bool

    @property
    def name(self) -> str:
        """The usual spelling, `5000/tcp`."""
        return f"{self.port}/{self.protocol}"


def listeners(facts: HostFacts) -> Iterator[Listener]:
    """Yield what listens on other addresses than this machine's own loopback and the engine's bridges."""
    bridges = (facts.bridges or "").split()
    for line in (facts.sockets or "").splitlines():
        protocol, _, _, _, local, *more = line.split()
        address, _, port = local.rpartition(":")
        address = address.strip("[]").partition("%")[0].rstrip("]")
        if address in bridges or not _reachable(address):
            continue
        program = re.search(r'\(\("([^"]+)"', more[-1]) if more else None
        yield Listener(int(port), protocol, program[1] if program else "", ipv6=_takes_ipv6(address))


def _reachable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return True  # "*": both families
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return not (mapped.is_loopback or mapped.is_link_local)


def _takes_ipv6(address: str) -> bool:
    """Tell whether connections over IPv6 arrive there: "*" is both families."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return True
    return parsed.version == 6 and parsed.ipv4_mapped is None  # noqa: PLR2004  # its name


def ports(facts: HostFacts) -> CheckResult:
    """Nothing but SSH and nginx listens for the world, or the firewall keeps it out."""
    if facts.sockets is None:
        return unchecked("ports", "没有 ss（iproute2）", "there is no ss (iproute2)")
    ssh = {f"{port}/tcp" for port in (facts.ssh_ports or "").split()}
    ours = {f"{facts.http_port}/tcp", f"{facts.https_port}/tcp"} | ssh | _HARMLESS | _meant(facts)
    strangers = {s for s in listeners(facts) if s.name not in ours and s.program not in ("sshd", "sshd-session")}
    shielded = {s for s in strangers if _shields(facts, s)}
    bare = strangers - shielded
    if bare:
        return fail(
            "ports",
            f"对外开放了其他端口：{_listed(bare)}。请关闭、改听 127.0.0.1，有意为之则写入 .env：KADUN_DOCTOR_PORTS",
            f"Open to the world besides SSH and nginx: {_listed(bare)}. Stop it, bind it to 127.0.0.1, "
            "or name it in KADUN_DOCTOR_PORTS in .env if you mean it",
        )
    if shielded:
        return ok("ports", f"UFW 挡住了 {_listed(shielded)}", f"UFW shields {_listed(shielded)}")
    return ok("ports", "对外只有 SSH 与 nginx", "Only SSH and nginx listen for the world")


def _meant(facts: HostFacts) -> set[str]:
    words = re.split(r"[\s,]+", facts.known_ports or "")
    return {word if "/" in word else f"{word}/tcp" for word in words if word}


def _listed(found: set[Listener]) -> str:
    return ", ".join(f"{s.name} {s.program}".strip() for s in sorted(found))


def _shields(facts: HostFacts, listener: Listener) -> bool:
    """Tell whether UFW keeps everybody out and no rule of its lets everybody reach this listener."""
    if not facts.ufw or not _is_closed(facts.ufw) or listener.program in _ROUND_UFW:
        return False
    if listener.ipv6 and facts.ipv6_unfiltered:
        return False
    rules = (_RULE.match(line) for line in facts.ufw.splitlines())
    return not any(_lets_in(rule["to"], listener) for rule in rules if rule is not None)


def _is_closed(ufw: str) -> bool:
    return "Status: active" in ufw and _DENIES.search(ufw) is not None


def _lets_in(to: str, listener: Listener) -> bool:
    rule = _PORTS.fullmatch(to)
    if rule is None:
        return True  # of a kind that we do not know: it may
    if rule["protocol"] not in (None, listener.protocol):
        return False
    spans = (span.partition(":") for span in rule["ports"].split(","))
    return any(int(low) <= listener.port <= int(high or low) for low, _, high in spans)


def firewall(facts: HostFacts) -> CheckResult:
    """UFW is active and denies by default."""
    if facts.ufw is None:
        return unchecked("firewall", "请用 root 查询 UFW", "UFW tells only root")
    if not _is_closed(facts.ufw):
        return warn(
            "firewall",
            "UFW 未启用或默认放行：若云服务商的安全组已限制端口则无妨，否则运行 scripts/provision.sh",
            "UFW is not active or lets in by default: fine behind a security group, else run scripts/provision.sh",
        )
    if facts.ipv6_unfiltered:
        return warn(
            "firewall",
            "UFW 不管 IPv6（/etc/default/ufw 中 IPV6=no）：请运行 scripts/provision.sh",
            "UFW leaves IPv6 alone (IPV6=no in /etc/default/ufw): run scripts/provision.sh",
        )
    return ok("firewall", "UFW 已启用，默认拒绝", "UFW is active and denies by default")


def reference_of(answer: str | None) -> str | None:
    """Return a verdict's reference, by which the journal knows it; None for what is no verdict."""
    try:
        payload = json.loads(answer or "")["token"].split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["jti"][-8:])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def proxy(host: HostFacts, inside: InsideFacts) -> CheckResult:
    """The app sees the client's address, not the gateway's, whatever the client writes into its headers.

    The host asked for a card that cannot be one, from addresses of its own that it knows, with lying headers; the
    journal tells what the app took for the address.
    """
    if not inside.behind_proxy:
        return fail(
            "proxy",
            "KADUN_BEHIND_PROXY 不是 true：应用看不到客户地址",
            "KADUN_BEHIND_PROXY is not true: the app cannot see the client's address",
        )
    if isinstance(inside.database, str):
        return unchecked("proxy", "数据库不可用", "the database is away")
    if inside.database.schema_found != inside.schema_expected:
        return unchecked("proxy", "数据库结构不符", "the schema is another")
    recorded = inside.database.recorded
    faulty = is_healthy(host, "app") and any(ask.status == HTTPStatus.SERVICE_UNAVAILABLE for ask in host.proxy)
    seen = [(ask.address, found) for ask in host.proxy if (found := recorded.get(reference_of(ask.answer) or ""))]
    wrong = [
        f"{address} → {found}" for address, found in seen if canonical_address(address) != canonical_address(found)
    ]
    if wrong:
        listed = ", ".join(wrong)
        return fail(
            "proxy",
            f"应用记录的不是客户地址（实际 → 记录）：{listed}。绑定失去意义，请恢复 nginx/ 中的配置",
            f"The app takes another address for the client's (true → taken): {listed}. "
            "Bindings mean nothing so: put nginx/ back as it was",
        )
    return _unless_seen(seen, host.proxy, faulty=faulty)


def _unless_seen(seen: list[tuple[str, str]], asked: list[Ask], *, faulty: bool) -> CheckResult:
    if seen:
        listed = ", ".join(sorted({address for address, _ in seen}))
        return ok("proxy", f"应用看到的是客户地址（{listed}）", f"The app sees the client's own address ({listed})")
    if faulty:
        return fail(
            "proxy",
            "应用答复 503：nginx 没有给出唯一有效的客户地址（X-Real-IP），见 docker compose logs app",
            "The app answers 503: nginx hands over no single valid X-Real-IP; see docker compose logs app",
        )
    if asked:
        return unchecked(
            "proxy", "本机请求过多，未入日志", "too many requests from here of late for the journal to tell"
        )
    return unchecked("proxy", "nginx 没有响应（或本机没有 curl）", "nginx does not answer (or there is no curl here)")
