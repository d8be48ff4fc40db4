"""Checks of the backups: a recent one is verified, encrypted and copied off the machine, and cron makes the next."""

from datetime import datetime, timedelta

from app.services.system.doctor.facts import AllFacts
from app.services.system.doctor.results import CheckResult, NotCheckedError, fail, ok, warn

MAX_BACKUP_AGE = timedelta(hours=26)  # a day, and time for a slow one
MAX_VERIFICATION_AGE = timedelta(days=8)  # a week, and a day for a slow one
CLOCK_TOLERANCE = timedelta(minutes=5)


def backup(facts: AllFacts) -> CheckResult:
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
    if not host.has_backup:
        return fail(f"备份文件不见了：{name}", f"The file of the last backup is missing: {name}. Run scripts/backup.sh")
    return ok(f"{hours} 小时前：{name}", f"{hours} h old: {name}")


def backup_proof(facts: AllFacts) -> CheckResult:
    """Check that a backup was restored and compared within 8 days."""
    host = facts.host
    if host.last_verified is None:
        return warn(
            "还没有验证过备份：运行 scripts/backup.sh --verify",
            "No backup was ever verified: run scripts/backup.sh --verify",
        )
    verified, name = _parse(host.last_verified)
    if verified is None or not -CLOCK_TOLERANCE < host.now - verified < MAX_VERIFICATION_AGE:
        return warn(
            f"八天内没有成功的验证（{host.last_verified}）："
            "请查看 data/backups/backup.log，并运行 scripts/backup.sh --verify",
            f"No backup was verified within 8 days (last: {host.last_verified}): see data/backups/backup.log, "
            "and run scripts/backup.sh --verify",
        )
    days = max((host.now - verified).days, 0)
    return ok(f"{days} 天前验证过：{name}", f"Verified {days} days ago: {name}")


def backup_away(facts: AllFacts) -> CheckResult:
    """Check that the hooks' last copy elsewhere is at most 26 hours older than the last backup."""
    host = facts.host
    if not host.has_hooks:
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


def backup_identity(facts: AllFacts) -> CheckResult:
    """Check that the identity that opens the backups is there, and that the vendor has copied it elsewhere."""
    host = facts.host
    if host.has_identity is None:
        raise NotCheckedError(
            "看不到 secrets/backup_identity（请用 root 运行）", "secrets/backup_identity is not visible (try as root)"
        )
    if not host.has_identity:
        return fail(
            "缺少 secrets/backup_identity，无法备份：请放回您的副本；若已丢失，运行 scripts/init.sh 新建",
            "secrets/backup_identity is missing, and no backup can be made: put your copy back; if it is lost, run "
            "scripts/init.sh, which makes a new one",
        )
    if host.setting("KADUN_IDENTITY_COPIED") != "yes":
        return warn(
            "请把 secrets/backup_identity 复制到别的机器，再在 .env 中设置 KADUN_IDENTITY_COPIED=yes："
            "没有它，任何备份都打不开",
            "Copy secrets/backup_identity to another machine, then set KADUN_IDENTITY_COPIED=yes in .env: "
            "nothing else opens the backups",
        )
    return ok("私钥另有副本", "A copy of the identity is elsewhere")


def cron_jobs(facts: AllFacts) -> CheckResult:
    """Check that cron calls this checkout's backup.sh."""
    install = "scripts/install-cron.sh"
    match facts.host.cron:
        case "installed":
            return ok("定时备份已安装", "The cron jobs are installed")
        case "missing":
            return warn(f"没有定时备份：运行 {install}", f"No cron jobs back this stack up: run {install}")
        case "other":
            return fail(
                f"定时文件中没有此目录的备份：重新运行 {install}",
                f"The cron file does not call this folder's backup.sh: run {install} again",
            )
        case _:
            raise NotCheckedError("无法读取定时文件（请用 root 运行）", "the cron file cannot be read (try as root)")


def _parse(line: str) -> tuple[datetime | None, str]:
    """Split a line of the backup scripts into its time, None unless it has an offset, and the rest."""
    text, _, rest = line.partition(" ")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, rest
    return (None if moment.tzinfo is None else moment), rest
