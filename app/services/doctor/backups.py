"""Checks of the backups: there is a fresh one, it was proven, and it was carried off the machine."""

from datetime import datetime, timedelta

from app.services.doctor.facts import Backup
from app.services.doctor.result import CheckResult, fail, ok, warn

BACKUP_AGE = timedelta(hours=26)  # a day, and time for a slow one
PROOF_AGE = timedelta(days=8)  # a week, and a day for a slow one
CLOCK_TOLERANCE = timedelta(minutes=5)


def results(facts: Backup, now: datetime) -> list[CheckResult]:
    """Return all of them."""
    return [backup(facts, now), proof(facts, now), away(facts)]


def backup(facts: Backup, now: datetime) -> CheckResult:
    """The last good backup is not older than a day and a bit, and its file is there still."""
    if facts.last_good is None:
        return _no_backup(facts, now)
    made, name = _parsed(facts.last_good)
    if made is None:
        return fail("backup", "last-good 无法解读", "last-good cannot be read: run scripts/backup.sh")
    age = now - made
    hours = int(age.total_seconds() // 3600)
    if age < -CLOCK_TOLERANCE:
        return fail(
            "backup",
            f"上次备份在未来（{made.isoformat()}）：时钟有误",
            f"The last one lies ahead ({made.isoformat()}): a clock is wrong",
        )
    if age > BACKUP_AGE:
        return fail(
            "backup",
            f"上次成功的备份在 {hours} 小时前：请查看 data/backups/backup.log，并运行 scripts/backup.sh",
            f"The last good one is {hours} h old: look at data/backups/backup.log and run scripts/backup.sh",
        )
    if not facts.size:
        return fail("backup", f"备份文件不见了：{name}", f"Its file is gone: {name}. Run scripts/backup.sh")
    return ok("backup", f"{max(hours, 0)} 小时前：{name}", f"{max(hours, 0)} h old: {name}")


def _no_backup(facts: Backup, now: datetime) -> CheckResult:
    zh = "还没有备份：运行 scripts/backup.sh，并用 scripts/install-cron.sh 每天执行"
    en = "There is none yet: run scripts/backup.sh, and scripts/install-cron.sh for every day"
    fresh = facts.installed is not None and now.timestamp() - facts.installed < BACKUP_AGE.total_seconds()
    return warn("backup", zh, en) if fresh else fail("backup", zh, en)


def proof(facts: Backup, now: datetime) -> CheckResult:
    """A backup was restored and compared within a week and a bit."""
    if facts.last_verified is None:
        return warn(
            "backup-proof",
            "还没有验证过备份：运行 scripts/verify-backup.sh",
            "None was ever proven: run scripts/verify-backup.sh",
        )
    verified, name = _parsed(facts.last_verified)
    if verified is None or not -CLOCK_TOLERANCE < now - verified < PROOF_AGE:
        return warn(
            "backup-proof",
            f"八天内没有成功的验证（{facts.last_verified}）："
            "请查看 data/backups/backup.log，并运行 scripts/verify-backup.sh",
            f"None was proven within 8 days ({facts.last_verified}): look at data/backups/backup.log "
            "and run scripts/verify-backup.sh",
        )
    days = max((now - verified).days, 0)
    if name.endswith(" sha256"):
        return ok(
            "backup-proof",
            f"{days} 天前核对过校验和；已加密，请在有私钥的机器上完整验证",
            f"Its checksum was right {days} days ago; it is encrypted: prove it where the identity is",
        )
    return ok("backup-proof", f"{days} 天前验证过：{name}", f"Proven {days} days ago: {name}")


def away(facts: Backup) -> CheckResult:
    """What the hooks carry off the machine is not much older than the last backup."""
    if not facts.hooks:
        return ok(
            "backup-away",
            "未设置异地备份程序 data/backup-hooks.d",
            "No hooks in data/backup-hooks.d carry them off the machine",
        )
    if facts.last_good is None:
        return warn("backup-away", "还没有备份", "There is no backup yet")
    carried, name = _parsed(facts.last_away or "")
    made, _ = _parsed(facts.last_good)
    if carried is None or (made is not None and made - carried > BACKUP_AGE):
        text = facts.last_away or "never"
        return warn(
            "backup-away",
            f"最近的备份没有异地副本（上次：{text}）：请查看 data/backups/backup.log，并运行 scripts/backup.sh",
            f"The newest ones were not carried away (last: {text}): look at data/backups/backup.log "
            "and run scripts/backup.sh",
        )
    return ok("backup-away", f"已有异地副本：{name}", f"Carried away: {name}")


def _parsed(line: str) -> tuple[datetime | None, str]:
    """Return the time, None where there is none with an offset, and the rest of a line that the scripts wrote."""
    text, _, rest = line.partition(" ")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, rest
    return (None if moment.tzinfo is None else moment), rest
