"""From facts to results: every check, in the order in which a person would look."""

from collections.abc import Sequence
from datetime import datetime

from app.services.doctor import backups, certificate, console, host, inside, network
from app.services.doctor.facts import Facts, HostFacts, Mode
from app.services.doctor.result import CheckResult


def examine(facts: Facts) -> list[CheckResult]:
    """Return all results; what only the host could tell is left out where it was not asked."""
    results = [] if facts.host is None else examine_host(facts.host, facts.now, facts.inside.modes)
    results += [
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
        return [*results, inside.key_permissions(facts.inside)]
    results.append(host.program(facts.host, facts.inside.program))
    return [*results, console.console(facts.host, facts.inside), network.proxy(facts.host, facts.inside)]


def examine_host(facts: HostFacts, now: datetime, modes: Sequence[Mode] = ()) -> list[CheckResult]:
    """Return the results that need no look inside; `modes` are what is seen there of the key folder."""
    nginx_runs = host.runs(facts, "nginx")
    return [
        host.containers(facts),
        host.restarts(facts, now),
        host.images(facts),
        *certificate.results(facts.certificate, facts.domains, now, nginx_runs=nginx_runs),
        *(host.disk(disk) for disk in facts.disks),
        *backups.results(facts.backup, now),
        network.ports(facts),
        network.firewall(facts),
        host.permissions(facts, modes),
        host.secrets_in_env(facts),
    ]
