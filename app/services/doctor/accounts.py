"""Checks of what operators and shops' tokens may do."""

from app.services.doctor.facts import TOKEN_EXPIRES_SOON, Facts
from app.services.doctor.results import CheckResult, NotCheckedError, fail, listing, ok, warn


def ceilings(facts: Facts) -> CheckResult:
    """Check that each operator and each token has ceilings; those from before there were ceilings have none."""
    found = facts.database.without_ceilings
    if found is None:
        raise NotCheckedError("数据库结构或权限不符", "the database's schema or rights are not as they should be")
    if found:
        return warn(
            f"没有发卡上限：{listing(found)}。请在后台“管理员”页面，或用 cardctl admin ceilings、token limits 设置",
            f"Without ceilings: {listing(found)}. Set them on the console's page Operators, "
            "or with cardctl admin ceilings and token limits",
        )
    return ok("每个管理员和令牌都有发卡上限", "Each operator and each token has ceilings")


def tokens(facts: Facts) -> CheckResult:
    """Check that no token expires soon: its shop would stop selling."""
    found = facts.database.expiring_tokens
    if found is None:
        raise NotCheckedError("数据库结构或权限不符", "the database's schema or rights are not as they should be")
    if found:
        return warn(
            f"令牌即将到期或已到期：{listing(found)}。用 cardctl token limits NAME --expires 365d 延长，不用的请吊销",
            f"Tokens that expire soon, or have expired: {listing(found)}. "
            "Renew them with cardctl token limits NAME --expires 365d, or revoke them",
        )
    return ok("没有即将到期的令牌", f"No token expires within {TOKEN_EXPIRES_SOON.days} days")


def sealing_key(facts: Facts) -> CheckResult:
    """Check that the secrets of operators and webhooks are sealed, and open with this installation's key."""
    found = facts.database.sealed
    if found is None:
        raise NotCheckedError("数据库结构或权限不符", "the database's schema or rights are not as they should be")
    if lost := [name for name, opens in found.items() if opens is False]:
        return fail(
            f"KADUN_SEALING_KEY 打不开：{listing(lost)}。请放回原来的 secrets/sealing_key 并重启；"
            "若已丢失，见 docs/operations.zh-CN.md",
            f"KADUN_SEALING_KEY does not open the secrets of {listing(lost)}: "
            "put the former secrets/sealing_key back and restart; if it is lost, see docs/operations.md",
        )
    if clear := [name for name, opens in found.items() if opens is None]:
        return warn(
            f"密钥未加密：{listing(clear)}。设置 KADUN_SEALING_KEY 并重启（容器中由 scripts/init.sh 生成）",
            f"Secrets are not sealed: {listing(clear)}. "
            "Set KADUN_SEALING_KEY and restart (in containers, scripts/init.sh makes it)",
        )
    return ok("两步验证和 Webhook 的密钥均已加密", "The secrets of two-step verification and webhooks are sealed")
