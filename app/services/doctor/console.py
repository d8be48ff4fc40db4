"""The check of the console: a stolen password must not be enough to log in from anywhere."""

from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, NotCheckedError, ok, warn


def console(facts: Facts) -> CheckResult:
    """Check that the console is off, open to certain addresses only, or that each operator uses one-time codes."""
    admin_allow = facts.host.setting("KADUN_ADMIN_ALLOW")
    operators = facts.database.operators
    if operators is None:
        raise NotCheckedError("数据库结构不符", "the database has another schema")
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
