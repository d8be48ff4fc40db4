"""The check of the machines that serve one database."""

from app.domain.hosts import faults
from app.services.doctor.facts import Facts, NotGatheredError
from app.services.doctor.results import CheckResult, NotCheckedError, listing, ok, warn


def hosts(facts: Facts) -> CheckResult:
    """Check that the hosts have the same signing keys, functions, version and time, and different names."""
    found = facts.database.hosts
    if found is None:
        raise NotCheckedError("数据库结构或权限不符", "the database's schema or rights are not as they should be")
    if not found:
        raise NotGatheredError  # the service has never run
    if problems := faults(found, facts.database.sessions):
        return warn("；".join(text.zh for text in problems), "; ".join(text.en for text in problems))
    names = listing([host.name for host in found])
    if len(found) == 1:
        return ok(f"一台主机：{names}", f"One host: {names}")
    return ok(
        f"{len(found)} 台主机，密钥、核心功能、版本与时钟一致：{names}",
        f"{len(found)} hosts with the same keys, functions, version and time: {names}",
    )
