"""Checks of the database: its schema is this program's, it keeps what it acknowledged, the machines on it agree."""

from app.domain.system.hosts import faults
from app.services.system.doctor.facts import Facts, NotGatheredError, readable
from app.services.system.doctor.results import CheckResult, fail, listing, ok, warn


def database(facts: Facts) -> CheckResult:
    """Check that the database answers, and that nobody between can pose as it."""
    found = facts.service.database
    if not isinstance(found, str) and found.unproven_host:
        return warn(
            f"与 {found.unproven_host} 之间的人可以冒充数据库并取得密码："
            "在 secrets/ 的三个 URL 中写 sslmode=require&channel_binding=require，再重新创建容器",
            f"Somebody between here and {found.unproven_host} can pose as the database and get its password: in the "
            "three URLs in secrets/, write sslmode=require&channel_binding=require, then recreate the containers",
        )
    if not isinstance(found, str):
        return ok("数据库有响应", "The database answers")
    return fail(f"数据库不可用：{found}", f"The database is unavailable: {found}")


def schema(facts: Facts) -> CheckResult:
    """Check that the schema is this program's, or a newer one."""
    found, expected = facts.database.schema_found or "empty", facts.service.schema_expected
    if found == expected:
        return ok(f"结构为最新：{found}", f"Current: {found}")
    if facts.database.schema_found is None or found < expected:
        return fail(
            f"{found}，应为 {expected}：执行 scripts/cardctl migrate",
            f"{found} instead of {expected}: run scripts/cardctl migrate",
        )
    return warn(
        f"数据库已升级到 {found}，本机程序为 {expected}：请尽快升级本机",
        f"The database is upgraded to {found}; this program is for {expected}: upgrade this machine soon",
    )


def durability(facts: Facts) -> CheckResult:
    """Check that what was acknowledged outlives a crash, and the loss of a host where there are several."""
    if not facts.database.fsync:
        return fail(
            "PostgreSQL 的 fsync 已关闭：断电会损坏数据库、丢失已确认的激活。设为 on 后重新加载配置",
            "fsync is off in PostgreSQL: a power failure damages the database and loses acknowledged activations. "
            "Set it to on, and reload the configuration",
        )
    standbys = facts.database.standbys
    if not standbys:
        return ok("已确认的写入都在磁盘上", "Acknowledged writes are on the disk")
    zh = [f"{name} {behind if isinstance(behind, str) else f'落后 {behind} 字节'}" for name, behind in standbys.items()]
    en = [
        f"{name}: {behind if isinstance(behind, str) else f'{behind} bytes behind'}"
        for name, behind in standbys.items()
    ]
    if not facts.database.synchronous:
        return warn(
            f"没有同步备库（synchronous_standby_names 为空），主库故障会丢失已确认的激活。{'；'.join(zh)}",
            "There is no synchronous standby (synchronous_standby_names is empty): acknowledged activations are lost "
            f"with the primary. {'; '.join(en)}",
        )
    is_known = not any(isinstance(behind, str) for behind in standbys.values())
    return (ok if is_known else warn)(f"同步复制。{'；'.join(zh)}", f"Replication is synchronous. {'; '.join(en)}")


def hosts(facts: Facts) -> CheckResult:
    """Check that the machines on this database have the same signing keys, functions, version and time."""
    found = readable(facts.database.hosts)
    if not found:
        raise NotGatheredError  # the service has never run
    if problems := faults(found):
        zh, en = "；".join(text.zh for text in problems), "; ".join(text.en for text in problems)
        return warn(f"{zh}。见 cardctl hosts", f"{en}. See cardctl hosts")
    names = listing([host.name for host in found])
    return ok(f"{len(found)} 台主机，相互一致：{names}", f"Hosts that agree: {names}")
