"""Checks of the backups: a recent one is verified, encrypted and copied off the machine, and cron makes the next."""

from datetime import datetime, timedelta

from app.domain.hosts import default_name
from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, NotCheckedError, fail, ok, warn

MAX_BACKUP_AGE = timedelta(hours=26)  # a day, and time for a slow one
MAX_VERIFICATION_AGE = timedelta(days=8)  # a week, and a day for a slow one
MAX_AGES = {"backup": MAX_BACKUP_AGE, "verify": MAX_VERIFICATION_AGE}
"""By the names of the jobs in table `host_job`."""
CLOCK_TOLERANCE = timedelta(minutes=5)
_WRITABLE_BY_OTHERS = 0o022


def backup(facts: Facts) -> CheckResult:
    """Check that the last good backup of any host is not older than 26 hours, and that a file of this host exists."""
    host = facts.host
    if host.last_good is None:
        is_new = host.installed is not None and host.now.timestamp() - host.installed < MAX_BACKUP_AGE.total_seconds()
        return _by_another_host(facts, "backup") or (warn if is_new else fail)(
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
        return _by_another_host(facts, "backup") or fail(
            f"上次成功的备份在 {hours} 小时前：请查看 data/backups/backup.log，并运行 scripts/backup.sh",
            f"The last good backup is {hours} h old: see data/backups/backup.log, and run scripts/backup.sh",
        )
    if not host.backup_bytes:
        return fail(f"备份文件不见了：{name}", f"The file of the last backup is missing: {name}. Run scripts/backup.sh")
    return ok(f"{hours} 小时前：{name}", f"{hours} h old: {name}")


def backup_checksum(facts: Facts) -> CheckResult:
    """Check that the last good backup matches its checksum and its manifest; over 1 GiB only verify-backup.sh does."""
    host = facts.host
    if host.last_good is None and (elsewhere := _by_another_host(facts, "backup")):
        return elsewhere
    if host.last_good is None or not host.backup_bytes:
        raise NotCheckedError("没有备份文件", "there is no file of a backup")
    if host.backup_checksum is None:
        raise NotCheckedError("无法读取备份", "the backup cannot be read")
    if host.backup_checksum == "large":
        raise NotCheckedError(
            "备份超过 1 GiB，由 scripts/verify-backup.sh 核对",
            "the backup is over 1 GiB: scripts/verify-backup.sh compares it",
        )
    if host.backup_checksum != "ok":
        return fail(
            f"上次的备份不完整，请运行 scripts/backup.sh：{host.backup_checksum}",
            f"The last backup is damaged, run scripts/backup.sh: {host.backup_checksum}",
        )
    return ok("与校验和一致", "It matches its checksum")


def backup_proof(facts: Facts) -> CheckResult:
    """Check that a backup was restored and compared within 8 days."""
    host = facts.host
    if host.last_verified is None:
        return _by_another_host(facts, "verify") or warn(
            "还没有验证过备份：运行 scripts/verify-backup.sh",
            "No backup was ever verified: run scripts/verify-backup.sh",
        )
    verified, name = _parse(host.last_verified)
    if verified is None or not -CLOCK_TOLERANCE < host.now - verified < MAX_VERIFICATION_AGE:
        return _by_another_host(facts, "verify") or warn(
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
        return _by_another_host(facts, "backup") or warn("还没有备份", "There is no backup yet")
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


def backup_identity(facts: Facts) -> CheckResult:
    """Check that backups are encrypted, the identity decrypts them, and a copy of it elsewhere was confirmed."""
    host = facts.host
    match host.setting("KADUN_BACKUP_RECIPIENT"), host.backup_identity:
        case "none", _:
            return warn(
                "备份未加密（KADUN_BACKUP_RECIPIENT=none）",
                "Backups are in clear (KADUN_BACKUP_RECIPIENT=none)",
            )
        case "", "missing":
            return fail(
                "缺少 secrets/backup_identity，无法备份：请放回您的副本；若已丢失，运行 scripts/init.sh 新建",
                "secrets/backup_identity is missing, and no backup can be made: put your copy back; if it is lost, run "
                "scripts/init.sh, which makes a new one",
            )
        case "", "other":
            return fail(
                "secrets/backup_identity 打不开上次的备份：请放回原来的私钥；若已丢失，执行 scripts/backup.sh 重新备份",
                "secrets/backup_identity does not decrypt the last backup: put the former identity back, or, if it is "
                "lost, make a new backup with scripts/backup.sh",
            )
        case "", "not copied":
            return warn(
                "请把 secrets/backup_identity 复制到别的机器：没有它，备份无法解密。"
                "然后在那里算出副本的 SHA-256，在本机执行 scripts/backup.sh --copied SHA256",
                "Copy secrets/backup_identity to another machine: without it no backup can be decrypted. Then compute "
                "the copy's SHA-256 there, and run here scripts/backup.sh --copied SHA256",
            )
        case "", None:
            raise NotCheckedError(
                "无法读取 secrets/backup_identity（请用 root 运行）",
                "secrets/backup_identity cannot be read (try as root)",
            )
        case "", _:
            return ok("备份已加密，私钥另有副本", "Backups are encrypted, and a copy of the identity is elsewhere")
        case _:
            return ok("备份以您自己的公钥加密", "Backups are encrypted to a recipient of your own")


def cron_jobs(facts: Facts) -> CheckResult:
    """Check that the cron file is what install-cron.sh writes, and that cron obeys it."""
    host = facts.host
    install = "scripts/install-cron.sh"
    if host.cron_table is None and host.cron_mode is not None:
        raise NotCheckedError("无法读取定时文件（请用 root 运行）", "the cron file cannot be read (try as root)")
    if host.cron_table is None:
        return warn(f"没有定时备份：运行 {install}", f"No cron jobs back this stack up: run {install}")
    mode, _, owner = (host.cron_mode or "644 0").partition(" ")
    if owner != "0" or int(mode, 8) & _WRITABLE_BY_OTHERS:
        return fail(
            f"cron 不理会权限或属主不对的文件（{mode}，uid {owner}）：重新运行 {install}",
            f"cron ignores a file with this mode or owner ({mode}, uid {owner}): run {install} again",
        )
    if host.cron_expected is None:
        return fail(f"定时文件中没有备份：重新运行 {install}", f"The cron file has no backup job: run {install} again")
    if host.cron_table != host.cron_expected:
        return fail(
            f"定时文件被改动，或属于别的目录：重新运行 {install}",
            f"The cron file was altered, or is another folder's: run {install} again",
        )
    return ok("定时备份已安装", "The cron jobs are installed")


def cron_daemon(facts: Facts) -> CheckResult:
    """Check that cron runs, where it is to make backups."""
    host = facts.host
    if host.cron_runs:
        return ok("cron 在运行", "cron runs")
    if host.cron_table is None:
        return ok("没有定时任务，无需 cron", "There are no jobs for cron")
    if host.cron_runs is None:
        raise NotCheckedError("看不到其他用户的进程（请用 root 运行）", "processes are hidden (try as root)")
    return fail(
        "cron 未运行，不会有备份：systemctl enable --now cron",
        "cron does not run, and makes no backups: systemctl enable --now cron",
    )


def _by_another_host(facts: Facts, job: str) -> CheckResult | None:
    """Return that another host that shares the database has done a job lately, None if it has not."""
    service = facts.service_if_any
    if service is None or isinstance(service.database, str) or (done := service.database.jobs.get(job)) is None:
        return None
    age = facts.host.now - done.done_at
    is_own = done.host == default_name(facts.host.setting("KADUN_HOST"))
    if is_own or not -CLOCK_TOLERANCE <= age <= MAX_AGES[job]:
        return None
    hours = max(int(age.total_seconds() // 3600), 0)
    return ok(
        f"{hours} 小时前由主机 {done.host} 完成，请在那里运行 doctor",
        f"Host {done.host} did it {hours} h ago: its doctor checks it",
    )


def _parse(line: str) -> tuple[datetime | None, str]:
    """Split a line of the backup scripts into its time, None unless it has an offset, and the rest."""
    text, _, rest = line.partition(" ")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, rest
    return (None if moment.tzinfo is None else moment), rest
