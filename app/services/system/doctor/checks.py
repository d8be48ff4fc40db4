"""The list of all checks, in the order in which they are reported.

To add a check, write a function of `AllFacts` that returns a `CheckResult`, and add it to `CHECKS`. The function's name
is the check's name. It asks `AllFacts` only for what it needs: a check is left out where that was not gathered, and is
reported as "not checked" where it raises `NotCheckedError`.
"""

from collections.abc import Callable

from app.services.system.doctor import backups, host, network, service
from app.services.system.doctor.facts import AllFacts, NotGatheredError
from app.services.system.doctor.results import CheckResult, NotCheckedError, warn

Check = Callable[[AllFacts], CheckResult]

CHECKS: tuple[Check, ...] = (
    host.containers,
    host.env_applied,
    host.env_names,
    service.settings,
    network.certificate,
    network.certificate_names,
    network.certificate_chain,
    network.proxy,
    host.disk,
    host.permissions,
    backups.backup,
    backups.backup_proof,
    backups.backup_away,
    backups.backup_identity,
    backups.cron_jobs,
    service.database,
    service.schema,
    service.durability,
    service.hosts,
    service.keys,
    service.data_key,
    service.data_key_in_use,
    service.bucket,
    service.files,
    service.functions,
    service.clock,
    service.console,
    service.sealing_key,
)


def run_checks(facts: AllFacts) -> dict[str, CheckResult]:
    """Return the result of each check by its name, in the order of `CHECKS`."""
    results = {}
    for check in CHECKS:
        try:
            result = check(facts)
        except NotGatheredError:
            continue
        except NotCheckedError as error:
            result = warn(f"无法检查：{error.text.zh}", f"Not checked: {error.text.en}")
        results[check.__name__.replace("_", "-")] = result
    return results
