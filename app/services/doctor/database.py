"""Checks of the database: it answers, its schema is what the migrations make, its roles have the rights they need."""

from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, NotCheckedError, fail, listing, ok, warn

_REFUSED = ("permission denied for database", "is not permitted to log in")


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
    if any(reason in found for reason in _REFUSED):
        return fail(
            f"数据库拒绝服务的角色连接（{found}）：执行 scripts/cardctl migrate；角色本身由 postgres/roles.sql 设置",
            f"The database refuses the service's role ({found}): run scripts/cardctl migrate; "
            "postgres/roles.sql sets the role itself",
        )
    return fail(f"数据库不可用：{found}", f"The database is unavailable: {found}")


def schema(facts: Facts) -> CheckResult:
    """Check that the schema is this program's."""
    found, expected = facts.database.schema_found or "empty", facts.service.schema_expected
    if found == expected:
        return ok(f"结构为最新：{found}", f"Current: {found}")
    if facts.database.schema_found is None and facts.database.missing_rights:
        raise NotCheckedError("服务的角色无权读取", "the service's role may not read it")
    if facts.database.schema_found is not None and found > expected:
        return warn(
            f"数据库已升级到 {found}，本机程序为 {expected}：请尽快升级本机",
            f"The database is upgraded to {found}, this program is of {expected}: upgrade this machine soon",
        )
    return fail(
        f"{found}，应为 {expected}：执行 scripts/cardctl migrate",
        f"{found} instead of {expected}: run scripts/cardctl migrate",
    )


def catalog(facts: Facts) -> CheckResult:
    """Check that tables, columns, indexes, constraints and triggers are those that the migrations make."""
    found = facts.database.catalog
    if found is None:
        raise NotCheckedError("数据库结构不符", "the database has another schema")
    zh, en = [], []
    for names, text_zh, text_en in (
        (found.missing, "缺少", "missing"),
        (found.changed, "被改动", "changed"),
        (found.foreign, "多出", "not made by a migration"),
    ):
        if names:
            zh.append(f"{text_zh} {listing(names)}")
            en.append(f"{text_en}: {listing(names)}")
    if not en:
        return ok("与迁移所建的一致", "As the migrations make it")
    return (fail if found.is_harmful else warn)(
        f"{'；'.join(zh)}。有人手工改过数据库：请改回，或用 scripts/restore.sh 恢复备份",
        f"{'; '.join(en)}. Somebody changed the database by hand: undo that, or restore a backup (scripts/restore.sh)",
    )


def roles(facts: Facts) -> CheckResult:
    """Check that the database roles can do no more than they need; the trial has one role that can do anything."""
    listed = "; ".join(f"{role}: {', '.join(problems)}" for role, problems in facts.database.roles.items() if problems)
    if not listed:
        return ok("数据库角色权限最小", "Each database role has only the rights that it needs")
    if not facts.service.behind_proxy:
        return warn(f"权限过大（仅试用时可以）：{listed}", f"Too many rights, acceptable in a trial only: {listed}")
    return fail(
        f"权限过大：{listed}。scripts/cardctl migrate 会重设表权限；角色属性用 ALTER ROLE … NOSUPERUSER 等收回",
        f"Too many rights: {listed}. scripts/cardctl migrate resets the tables' rights; "
        "remove attributes with ALTER ROLE … NOSUPERUSER and the like",
    )


def rights(facts: Facts) -> CheckResult:
    """Check that no database role lacks a right that the service, the backup or a migration needs."""
    missing = facts.database.missing_rights
    if not missing:
        return ok("数据库角色不缺权限", "Each database role has the rights that it needs")
    listed = "; ".join(f"{role}: {listing(names)}" for role, names in missing.items())
    return fail(
        f"缺少权限：{listed}。scripts/cardctl migrate 会补上（CREATEDB 用 ALTER ROLE，归属用 ALTER TABLE … OWNER）",
        f"Missing rights: {listed}. scripts/cardctl migrate grants them again "
        "(CREATEDB: ALTER ROLE, ownership: ALTER TABLE … OWNER)",
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
