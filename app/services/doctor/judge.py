"""From facts to findings: every check, in the order in which a person would look."""

from collections.abc import Sequence
from datetime import datetime

from app.services.doctor import backups, certificate, console, host, inside, network
from app.services.doctor.facts import Facts, HostFacts, Mode
from app.services.doctor.finding import Finding


def examine(facts: Facts) -> list[Finding]:
    """Return all findings; what only the host could tell is left out where it was not asked."""
    findings = [] if facts.host is None else examine_host(facts.host, facts.now, facts.inside.modes)
    findings += [
        inside.settings(facts.inside),
        inside.database(facts.inside),
        inside.schema(facts.inside),
        inside.roles(facts.inside),
        inside.keys(facts.inside),
        inside.data_key(facts.inside),
        inside.files(facts.inside),
        inside.functions(facts.inside),
        inside.clock(facts),
    ]
    if facts.host is None:
        return [*findings, inside.key_permissions(facts.inside)]
    findings.append(host.program(facts.host, facts.inside.program))
    return [*findings, console.console(facts.host, facts.inside), network.proxy(facts.host, facts.inside)]


def examine_host(facts: HostFacts, now: datetime, modes: Sequence[Mode] = ()) -> list[Finding]:
    """Return the findings that need no look inside; `modes` are what is seen there of the key folder."""
    nginx_runs = host.runs(facts, "nginx")
    return [
        host.containers(facts),
        host.restarts(facts, now),
        host.images(facts),
        *certificate.findings(facts.certificate, facts.domains, now, nginx_runs=nginx_runs),
        *(host.disk(disk) for disk in facts.disks),
        *backups.findings(facts.backup, now),
        network.ports(facts),
        network.firewall(facts),
        host.permissions(facts, modes),
        host.secrets_in_env(facts),
    ]
