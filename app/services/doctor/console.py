"""The check of the console: a password that somebody guessed or overheard should not be enough."""

from app.services.doctor.facts import HostFacts, InsideFacts
from app.services.doctor.result import CheckResult, ok, unchecked, warn


def console(host: HostFacts, inside: InsideFacts) -> CheckResult:
    """It is off, or open to certain addresses alone, or wants one-time codes from everybody."""
    if isinstance(inside.database, str):
        return unchecked("console", "数据库不可用", "the database is away")
    operators = inside.database.operators
    if operators is None:
        return unchecked("console", "数据库结构不符", "the schema is another")
    if not operators:
        return ok("console", "未启用：还没有管理员", "Off: there is no operator")
    if host.admin_allow:
        return ok("console", f"只对 {host.admin_allow} 开放", f"Open to {host.admin_allow} alone")
    by_password_alone = ", ".join(name for name, has_codes in operators.items() if not has_codes)
    if by_password_alone:
        return warn(
            "console",
            f"任何地址都能打开，且这些管理员只凭密码登录：{by_password_alone}。"
            "请在后台启用动态验证码，或在 .env 中设置 KADUN_ADMIN_ALLOW",
            f"Open to every address, and a password is enough for {by_password_alone}: "
            "switch one-time codes on in the console, or set KADUN_ADMIN_ALLOW in .env",
        )
    return ok(
        "console",
        f"{len(operators)} 个管理员，均启用动态验证码",
        f"Operators: {len(operators)}, all with one-time codes",
    )
