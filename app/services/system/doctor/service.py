"""Checks of what is seen where the service runs: settings, keys, files, functions, clock, operators, database."""

from app.domain.hosts import faults
from app.domain.texts import Text
from app.services.system.doctor.facts import AllFacts, DatabaseFacts, NotGatheredError, readable
from app.services.system.doctor.results import CheckResult, NotCheckedError, fail, listing, ok, warn

CLOCK_FAIL_SECONDS, CLOCK_WARN_SECONDS = 30.0, 3.0
MIN_KEY_LENGTH = 16


def settings(facts: AllFacts) -> CheckResult:
    """Check that the settings can be read."""
    error = facts.settings_error
    if error is not None:
        return fail(
            f"设置有误，其余设置与服务未检查：{error}", f"Invalid setting, so that the service is not checked: {error}"
        )
    if facts.service_if_any is None:
        raise NotGatheredError
    return ok("设置无误", "The settings are valid")


def keys(facts: AllFacts) -> CheckResult:
    """Check that the key ring is complete, with a current and a next key, and as new as the journal's last rotation."""
    found, moved_to = facts.service.key_ids, facts.service.keys_moved_to
    if isinstance(found, str):
        return fail(f"签名密钥有误：{found}", f"Signing keys: {found}")
    if moved_to is not None:
        return fail(
            f"签名密钥已移走，这里是无法轮换的副本：请在 .env 中设置 KADUN_KEYS={moved_to}，再 docker compose up -d",
            f"The signing keys were moved, and this copy cannot be rotated: set KADUN_KEYS={moved_to} in .env and run "
            "docker compose up -d",
        )
    database, newest_at = facts.service.database, facts.service.newest_key_at
    rotated_at, kid = (isinstance(database, DatabaseFacts) and database.last_rotation) or (None, None)
    # Not by time alone: v1.0.0 journalled a rotation some milliseconds after it. The next key has yet to be rotated to.
    if rotated_at and newest_at and newest_at < rotated_at and kid not in found[:-1]:
        return fail(
            f"签名密钥早于日志中的上次轮换（{rotated_at.isoformat()}），程序会拒绝它们："
            "请用 scripts/cardctl key restore FILE 放回最新的 keyring.json",
            f"The signing keys are older than the journal's last rotation ({rotated_at.isoformat()}), and programs "
            "refuse them: put the newest keyring.json back with scripts/cardctl key restore FILE",
        )
    current, following = found[-2:]
    return ok(f"当前 {current}，下一个 {following}", f"Current {current}, next {following}")


def data_key(facts: AllFacts) -> CheckResult:
    """Check that KERNAL_DATA_KEY holds age identities, or is long enough for a key of the vendor's own scheme."""
    identities, length = facts.service.data_key, facts.service.data_key_length
    if all(identities):
        count = len(identities)
        return ok(f"age 密钥 {count} 个", f"Age identities: {count}")
    if any(identities):
        return warn("其中有几行不是 age 密钥", "Some lines of KERNAL_DATA_KEY are not age identities")
    if length < MIN_KEY_LENGTH:
        return fail(
            f"KERNAL_DATA_KEY 只有 {length} 个字符，可被猜出",
            f"KERNAL_DATA_KEY has only {length} characters: it can be guessed",
        )
    return ok("自有方案的密钥（seal 不可用）", "A key of your own scheme (cardctl seal does not accept it)")


def data_key_in_use(facts: AllFacts) -> CheckResult:
    """Check that KERNAL_DATA_KEY is the key that this installation has used before (app/tokens/data_key_marks.py)."""
    found = facts.service.data_key_in_use
    if found is None:
        raise NotCheckedError("服务启动后才有记录", "the service marks the key when it starts")
    if isinstance(found, str):
        return fail(f"KERNAL_DATA_KEY 的记录有误：{found}", f"The mark of KERNAL_DATA_KEY: {found}")
    if not found:
        return fail(
            "KERNAL_DATA_KEY 不是一直使用的那把，已发出的程序将无法解密：请放回 secrets/kernal_data_key；"
            "若有意更换，执行 scripts/cardctl key accept",
            "KERNAL_DATA_KEY is not the key that was in use: programs that customers have cannot decrypt. "
            "Put secrets/kernal_data_key back; if you replaced it on purpose: scripts/cardctl key accept",
        )
    return ok("KERNAL_DATA_KEY 是一直使用的那把", "KERNAL_DATA_KEY is the one in use")


def files(facts: AllFacts) -> CheckResult:
    """Check that the bytes of every licensed file exist, and that more can be added."""
    folder = facts.service.unwritable_folder
    if folder is not None:
        return fail(
            f"服务无法写入 {folder}：请执行 scripts/init.sh，或改回其所有者",
            f"The service cannot write to {folder}: run scripts/init.sh, or restore its owner",
        )
    count, missing = readable(facts.database.files), facts.database.lost_files
    if missing is None:
        raise NotCheckedError("存储桶不可用", "the bucket is unavailable")
    if missing:
        lost = listing(missing)
        return fail(
            f"内容丢失：{lost}。请放回 data/files，或重新添加（cardctl file add）",
            f"The content is lost: {lost}. Restore data/files, or add the files again (cardctl file add)",
        )
    return ok(f"{count} 个文件，内容都在", f"{count} files, all with their content")


def bucket(facts: AllFacts) -> CheckResult:
    """Check that objects can be written to the bucket of licensed files, looked up, listed and removed."""
    found = facts.service.bucket
    if found is False:
        raise NotGatheredError
    if isinstance(found, Text):
        return fail(f"存储桶：{found.zh}", f"The bucket: {found.en}")
    return ok("存储桶可写、可读、可列出、可删除", "The bucket can be written, read, listed and cleaned")


def functions(facts: AllFacts) -> CheckResult:
    """Check that the functions service answers, and that it could load every module."""
    count, broken = facts.service.functions, listing(facts.service.broken)
    if count is None:
        raise NotCheckedError("核心功能的服务没有响应", "the functions service does not answer")
    if broken:
        return fail(
            f"无法加载：{broken}。原因见 cardctl function list",
            f"Modules that cannot be loaded: {broken}. See cardctl function list",
        )
    return ok(f"{count} 个核心功能已加载", f"{count} functions loaded")


def clock(facts: AllFacts) -> CheckResult:
    """Check that the clock is synchronised, and that it agrees with the database's."""
    found = facts.service.database
    offset = found.clock_offset_seconds if isinstance(found, DatabaseFacts) else 0.0
    if abs(offset) > CLOCK_FAIL_SECONDS:
        return fail(f"与数据库相差 {offset:+.0f} 秒", f"The database's clock differs by {offset:+.0f} s")
    if abs(offset) > CLOCK_WARN_SECONDS:
        return warn(f"与数据库相差 {offset:+.1f} 秒", f"The database's clock differs by {offset:+.1f} s")
    synchronised = facts.service.clock_synchronised
    if synchronised is None:
        raise NotCheckedError("系统不告知", "this system does not say")
    if not synchronised:
        return warn(
            "时钟未同步，卡密会早到期或晚到期：timedatectl set-ntp true，或安装 chrony",
            "Not synchronised: cards expire early or late. Run timedatectl set-ntp true, or install chrony",
        )
    return ok("已同步", "Synchronised")


def console(facts: AllFacts) -> CheckResult:
    """Check that the console is off, open to certain addresses only, or that each operator uses one-time codes."""
    admin_allow = facts.host.setting("KADUN_ADMIN_ALLOW")
    operators = readable(facts.database.operators)
    if not operators:
        return ok("未启用：还没有管理员", "Off: there are no operators")
    if admin_allow:
        return ok(f"只对 {admin_allow} 开放", f"Open to {admin_allow} only")
    by_password_alone = ", ".join(name for name, has_codes in operators.items() if not has_codes)
    if by_password_alone:
        return warn(
            f"任何地址都能打开，且这些管理员只凭密码登录：{by_password_alone}。"
            "请在后台启用动态验证码，或在 .env 中设置 KADUN_ADMIN_ALLOW",
            f"Open to every address, and a password is enough for {by_password_alone}: "
            "enable one-time codes in the console, or set KADUN_ADMIN_ALLOW in .env",
        )
    return ok(f"{len(operators)} 个管理员，均启用动态验证码", f"{len(operators)} operators, all with one-time codes")


def sealing_key(facts: AllFacts) -> CheckResult:
    """Check that the secrets of operators and webhooks are sealed, and open with this installation's key."""
    found = readable(facts.database.sealed)
    if lost := [name for name, opens in found.items() if opens is False]:
        return fail(
            f"KADUN_SEALING_KEY 打不开：{listing(lost)}。请放回原来的 secrets/sealing_key 并重启；"
            "若已丢失，见 docs/backups.zh-CN.md",
            f"KADUN_SEALING_KEY does not open the secrets of {listing(lost)}: "
            "put the former secrets/sealing_key back and restart; if it is lost, see docs/backups.md",
        )
    if clear := [name for name, opens in found.items() if opens is None]:
        return warn(
            f"密钥未加密：{listing(clear)}。设置 KADUN_SEALING_KEY 并重启（容器中由 scripts/init.sh 生成）",
            f"Secrets are not sealed: {listing(clear)}. "
            "Set KADUN_SEALING_KEY and restart (in containers, scripts/init.sh makes it)",
        )
    return ok("两步验证和 Webhook 的密钥均已加密", "The secrets of two-step verification and webhooks are sealed")


def database(facts: AllFacts) -> CheckResult:
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


def schema(facts: AllFacts) -> CheckResult:
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


def durability(facts: AllFacts) -> CheckResult:
    """Check that what was acknowledged outlives a crash, and the loss of a host where there are several."""
    if not facts.database.fsync:
        return fail(
            "PostgreSQL 的 fsync 已关闭：断电会损坏数据库、丢失已确认的激活。设为 on 后重新加载配置",
            "fsync is off in PostgreSQL: a power failure damages the database and loses acknowledged activations. "
            "Set it to on, and reload the configuration",
        )
    if facts.database.hosts_in_url < 2:  # noqa: PLR2004  # without another host
        return ok("已确认的写入都在磁盘上", "Acknowledged writes are on the disk")
    if not facts.database.synchronous:
        return warn(
            "没有同步备库（synchronous_standby_names 为空），主库故障会丢失已确认的激活",
            "There is no synchronous standby (synchronous_standby_names is empty): acknowledged activations are lost "
            "with the primary",
        )
    return ok("同步复制", "Replication is synchronous")


def hosts(facts: AllFacts) -> CheckResult:
    """Check that the machines on this database have the same signing keys, functions, version and time."""
    found = readable(facts.database.hosts)
    if not found:
        raise NotGatheredError  # the service has never run
    if problems := faults(found):
        zh, en = "；".join(text.zh for text in problems), "; ".join(text.en for text in problems)
        return warn(f"{zh}。见 cardctl hosts", f"{en}. See cardctl hosts")
    names = listing([host.name for host in found])
    return ok(f"{len(found)} 台主机，相互一致：{names}", f"Hosts that agree: {names}")
