"""Checks of the backups: there is a recent one, it was verified, and it was copied off the machine."""

from datetime import datetime, timedelta

from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, fail, ok, warn

MAX_BACKUP_AGE = timedelta(hours=26)  # a day, and time for a slow one
MAX_VERIFICATION_AGE = timedelta(days=8)  # a week, and a day for a slow one
CLOCK_TOLERANCE = timedelta(minutes=5)


def backup(facts: Facts) -> CheckResult:
    """Check that the last good backup is not older than 26 hours, and that its file exists."""
    host = facts.host
    if host.last_good is None:
        is_new = host.installed is not None and host.now.timestamp() - host.installed < MAX_BACKUP_AGE.total_seconds()
        return (warn if is_new else fail)(
            "还没有备份：运行 scripts/backup.sh，并用 scripts/install-cron.sh 每天执行",
            "No backup yet: run scripts/backup.sh, and scripts/install-cron.sh to run it every day",
        )
    made, name = _parse(host.last_good)
    if made is None:
        return fail("last-good 无法解读", "last-good cannot be read: run scripts/backup.sh")
    age = host.now - made
    hours = max(int(age.total_seconds() // 3600), 0)
    if age < -CLOCK_TOLERANCE:
        return fail(
            f"上次备份在未来（{made.isoformat()}）：时钟有误",
            f"The last backup is in the future ({made.isoformat()}): a clock is wrong",
        )
    if age > MAX_BACKUP_AGE:
        return fail(
            f"上次成功的备份在 {hours} 小时前：请查看 data/backups/backup.log，并运行 scripts/backup.sh",
            f"The last good backup is {hours} h old: see data/backups/backup.log, and run scripts/backup.sh",
        )
    if not host.backup_bytes:
        return fail(f"备份文件不见了：{name}", f"The file of the last backup is missing: {name}. Run scripts/backup.sh")
    return ok(f"{hours} 小时前：{name}", f"{hours} h old: {name}")


def backup_proof(facts: Facts) -> CheckResult:
    """Check that a backup was restored and compared within 8 days."""
    host = facts.host
    if host.last_verified is None:
        return warn(
            "还没有验证过备份：运行 scripts/verify-backup.sh",
            "No backup was ever verified: run scripts/verify-backup.sh",
        )
    verified, name = _parse(host.last_verified)
    if verified is None or not -CLOCK_TOLERANCE < host.now - verified < MAX_VERIFICATION_AGE:
        return warn(
            f"八天内没有成功的验证（{host.last_verified}）："
            "请查看 data/backups/backup.log，并运行 scripts/verify-backup.sh",
            f"No backup was verified within 8 days (last: {host.last_verified}): see data/backups/backup.log, "
            "and run scripts/verify-backup.sh",
        )
    days = max((host.now - verified).days, 0)
    if name.endswith(" sha256"):
        return ok(
            f"{days} 天前核对过校验和；已加密，请在有私钥的机器上完整验证",
            f"The checksum was right {days} days ago; the backup is encrypted: verify it where the identity is",
        )
    return ok(f"{days} 天前验证过：{name}", f"Verified {days} days ago: {name}")


def backup_away(facts: Facts) -> CheckResult:
    """Check that the hooks' last copy elsewhere is at most 26 hours older than the last backup."""
    host = facts.host
    if not host.backup_hooks:
        return ok("未设置异地备份程序 data/backup-hooks.d", "No hooks in data/backup-hooks.d copy backups elsewhere")
    if host.last_good is None:
        return warn("还没有备份", "There is no backup yet")
    carried, name = _parse(host.last_away or "")
    made, _ = _parse(host.last_good)
    if carried is None or (made is not None and made - carried > MAX_BACKUP_AGE):
        last = host.last_away or "never"
        return warn(
            f"最近的备份没有异地副本（上次：{last}）：请查看 data/backups/backup.log，并运行 scripts/backup.sh",
            f"The newest backups were not copied elsewhere (last: {last}): see data/backups/backup.log, "
            "and run scripts/backup.sh",
        )
    return ok(f"已有异地副本：{name}", f"Copied elsewhere: {name}")


def _parse(line: str) -> tuple[datetime | None, str]:
    """Split a line of the backup scripts into its time, None unless it has an offset, and the rest."""
    text, _, rest = line.partition(" ")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, rest
    return (None if moment.tzinfo is None else moment), rest
