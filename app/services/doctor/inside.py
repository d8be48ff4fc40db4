"""Checks of what is seen where the service runs: settings, database, keys, clock."""

from app.services.doctor.facts import DatabaseFacts, Facts, InsideFacts
from app.services.doctor.host import too_open
from app.services.doctor.result import CheckResult, fail, ok, unchecked, warn

CLOCK_FAIL_SECONDS, CLOCK_WARN_SECONDS = 30.0, 3.0
SHORTEST_KEY = 16
_SHOWN = 5
_AWAY = "数据库不可用", "the database is away"


def settings(facts: InsideFacts) -> CheckResult:
    """The settings can be read."""
    if facts.settings is not None:
        return fail("settings", f"设置有误：{facts.settings}", f"A setting is wrong: {facts.settings}")
    return ok("settings", "设置无误", "The settings are right")


def database(facts: InsideFacts) -> CheckResult:
    """The database answers."""
    if isinstance(facts.database, str):
        return fail("database", f"数据库不可用：{facts.database}", f"The database is away: {facts.database}")
    return ok("database", "数据库有响应", "The database answers")


def schema(facts: InsideFacts) -> CheckResult:
    """The schema is this program's."""
    if isinstance(facts.database, str):
        return unchecked("schema", *_AWAY)
    found, expected = facts.database.schema_found or "empty", facts.schema_expected
    if found == expected:
        return ok("schema", f"结构为最新：{found}", f"Current: {found}")
    remedy = ("程序比数据库旧，请用新版程序", "the program is older: run the newer one")
    if facts.database.schema_found is None or found < expected:
        remedy = ("执行 scripts/cardctl migrate", "run scripts/cardctl migrate")
    return fail("schema", f"{found}，应为 {expected}：{remedy[0]}", f"{found} instead of {expected}: {remedy[1]}")


def roles(facts: InsideFacts) -> CheckResult:
    """The roles can do what they need and no more; the trial makes do with one that can do anything."""
    if isinstance(facts.database, str):
        return unchecked("roles", *_AWAY)
    wrong = [f"{role.name}: {', '.join(role.problems)}" for role in facts.database.roles if role.problems]
    if not wrong:
        return ok("roles", "数据库角色权限最小", "Each database role can do what it needs and no more")
    listed = "; ".join(wrong)
    if not facts.behind_proxy:
        return warn(
            "roles", f"权限过大（仅试用时可以）：{listed}", f"Too powerful, which only a trial may be: {listed}"
        )
    return fail(
        "roles",
        f"权限过大：{listed}。scripts/cardctl migrate 会重设表权限；角色属性用 ALTER ROLE … NOSUPERUSER 等收回",
        f"Too powerful: {listed}. scripts/cardctl migrate sets the tables' rights anew; "
        "take attributes back with ALTER ROLE … NOSUPERUSER and the like",
    )


def keys(facts: InsideFacts) -> CheckResult:
    """The key ring is whole: a current and a next key, each endorsed."""
    if isinstance(facts.key_ids, str):
        return fail("keys", f"签名密钥有误：{facts.key_ids}", f"The signing keys: {facts.key_ids}")
    current, coming = facts.key_ids
    return ok("keys", f"当前 {current}，下一个 {coming}", f"Current {current}, next {coming}")


def data_key(facts: InsideFacts) -> CheckResult:
    """KERNAL_DATA_KEY is an age identity, or long enough to be a key of the vendor's own scheme."""
    check, identities = "data-key", facts.data_key
    if not identities:
        return unchecked(check, "设置有误", "a setting is wrong")
    if all(identities):
        return ok(
            check, f"age 密钥 {len(identities)} 个", f"{len(identities)} age identity" + "s" * (len(identities) > 1)
        )
    if any(identities):
        return warn(check, "其中有几行不是 age 密钥", "Some of its lines are no age identities")
    if facts.data_key_length < SHORTEST_KEY:
        return fail(
            check,
            f"KERNAL_DATA_KEY 只有 {facts.data_key_length} 个字符，可被猜出",
            f"KERNAL_DATA_KEY has {facts.data_key_length} characters: anyone can guess it",
        )
    return ok(check, "自有方案的密钥（seal 不可用）", "A key of your own scheme (seal refuses it)")


def files(facts: InsideFacts) -> CheckResult:
    """The bytes of every licensed file are there, and more can be added."""
    if facts.closed_folder is not None:
        return fail(
            "files",
            f"服务无法写入 {facts.closed_folder}：请执行 scripts/init.sh，或改回其所有者",
            f"The service cannot write to {facts.closed_folder}: run scripts/init.sh, or give it back its owner",
        )
    if isinstance(facts.database, str):
        return unchecked("files", *_AWAY)
    if facts.database.files is None:
        return unchecked("files", "数据库结构不符", "the schema is another")
    lost = facts.database.lost_files
    if lost:
        listed = _some(lost)
        return fail(
            "files",
            f"内容丢失：{listed}。请放回 data/files，或重新添加（cardctl file add）",
            f"The bytes are lost: {listed}. Put data/files back, or add them again (cardctl file add)",
        )
    count = facts.database.files
    return ok("files", f"{count} 个文件，内容都在", f"{count} in the list, and their bytes are there")


def functions(facts: InsideFacts) -> CheckResult:
    """The functions' service answers, and every module there could be loaded."""
    if facts.functions is None:
        return unchecked("functions", "核心功能的服务没有响应", "the service that runs them does not answer")
    if facts.broken:
        listed = _some(facts.broken)
        return fail(
            "functions",
            f"无法加载：{listed}。原因见 cardctl function list",
            f"Cannot be loaded: {listed}. cardctl function list says why",
        )
    return ok("functions", f"{facts.functions} 个核心功能已加载", f"{facts.functions} loaded")


def _some(names: tuple[str, ...]) -> str:
    more = f", … ({len(names)})" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def clock(facts: Facts) -> CheckResult:
    """The clock is synchronised, and the database's agrees."""
    database_facts = facts.inside.database
    offset = database_facts.clock_offset_seconds if isinstance(database_facts, DatabaseFacts) else 0.0
    if abs(offset) > CLOCK_FAIL_SECONDS:
        return fail("clock", f"与数据库相差 {offset:+.0f} 秒", f"The database's is {offset:+.0f} s away from ours")
    if abs(offset) > CLOCK_WARN_SECONDS:
        return warn("clock", f"与数据库相差 {offset:+.1f} 秒", f"The database's is {offset:+.1f} s away from ours")
    told = None if facts.host is None else facts.host.synchronised
    synchronised = facts.inside.kernel_synchronised if told is None else told == "yes"
    if synchronised is None:
        return unchecked("clock", "系统不告知", "this system does not tell")
    if not synchronised:
        return warn(
            "clock",
            "时钟未同步，卡密会早到期或晚到期：timedatectl set-ntp true，或安装 chrony",
            "Not synchronised, so cards expire early or late: timedatectl set-ntp true, or install chrony",
        )
    return ok("clock", "已同步", "Synchronised")


def key_permissions(facts: InsideFacts) -> CheckResult:
    """The signing keys are the service's alone: what can be said without the host."""
    wrong = too_open(facts.modes)
    if wrong:
        listed = ", ".join(wrong)
        return fail("permissions", f"其他用户可读：{listed}", f"Open to others: {listed}")
    return ok("permissions", "签名密钥仅服务可读", "The signing keys are the service's alone")
