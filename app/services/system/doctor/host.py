"""Checks of the host: containers, .env and the settings in force, disks, permissions."""

import re
from difflib import get_close_matches

from app.runtime.environment import By, names
from app.services.system.doctor.facts import AllFacts, Container, Disk
from app.services.system.doctor.results import CheckResult, NotCheckedError, Status, fail, listing, ok, warn

SERVICES = ("database", "app", "functions", "webhooks", "nginx")
PRIVATE = ("secrets", "https_certificates/privkey.pem", "data/keys")
_KEYRING = "data/keys/keyring.json"
GIB, MIB = 1 << 30, 1 << 20
FREE_FAIL, FREE_WARN, PERCENT_WARN, PLENTY = 512 * MIB, 2 * GIB, 10, 20 * GIB
INODES_PERCENT_FAIL, INODES_PERCENT_WARN = 2, 10
_OTHERS = 0o077
_MANY_RESTARTS = 3  # as many as the scripts wait for (scripts/lib/stack.sh)
_UP = "docker compose up -d --wait"


def containers(facts: AllFacts) -> CheckResult:
    """Check that every service runs and is healthy, and that the migration succeeded; or that the service has moved."""
    host = facts.host
    if host.moved_to is not None:
        return _of_moved(host.moved_to, serves=host.serves("app"))
    faults = {service: _fault(host.container(service)) for service in SERVICES}
    wrong = [f"{service}: {fault}" for service, fault in faults.items() if fault]
    migration = host.container("migrate")
    if migration is not None and migration.exit_code != 0:
        wrong.append(f"migrate: exit {migration.exit_code}")
    if wrong:
        listed = "; ".join(wrong)
        # `up` leaves a container alone that runs and is not healthy.
        unhealthy = " ".join(service for service, fault in faults.items() if fault == "unhealthy")
        commands = f"docker compose restart {unhealthy} && {_UP}" if unhealthy else _UP
        return fail(
            f"{listed}。请查看 docker compose logs，再执行 {commands}",
            f"{listed}. See docker compose logs, then run {commands}",
        )
    if starting := ", ".join(c.service for c in host.containers if c.health == "starting"):
        return warn(f"正在启动：{starting}", f"Still starting: {starting}")
    return ok("全部运行且健康", "All containers run and are healthy")


def _of_moved(mark: str, *, serves: bool) -> CheckResult:
    at, _, place = mark.partition(" ")
    if serves:
        return fail(
            f"标记为已搬迁到 {place}（{at}），但本机仍在服务：如已搬迁请 docker compose stop app；"
            "否则撤销：scripts/migrate-to.sh --resume-here",
            f"Marked as moved to {place} at {at}, but the service still runs here. If it has moved: "
            "docker compose stop app; if not: scripts/migrate-to.sh --resume-here",
        )
    return warn(
        f"服务已搬迁到 {place}（{at}），本机只回答 503。那边正常后 docker compose down；"
        "撤销：scripts/migrate-to.sh --resume-here",
        f"The service moved to {place} at {at}; this machine only answers 503. Once the new one works: "
        "docker compose down; to undo the move: scripts/migrate-to.sh --resume-here",
    )


def _fault(container: Container | None) -> str:
    if container is None:
        return "missing"
    if container.state != "running":
        memory = ", out of memory" if container.out_of_memory else ""
        return f"{container.state} (exit {container.exit_code}{memory})"
    if container.health == "starting" and container.restarts >= _MANY_RESTARTS:
        return f"restarted {container.restarts} times and not ready"
    return "unhealthy" if container.health == "unhealthy" else ""


def env_applied(facts: AllFacts) -> CheckResult:
    """Check that the containers run with what .env and docker-compose.yml say now."""
    host = facts.host
    if not host.config_hashes:
        raise NotCheckedError("docker compose config 失败", "docker compose config fails")
    outdated = [
        c.service
        for c in host.containers
        if c.service in SERVICES and host.config_hashes.get(c.service) != c.config_hash
    ]
    if outdated:
        listed = ", ".join(sorted(outdated))
        return warn(
            f"设置已改但尚未生效：{listed}。执行 {_UP}",
            f"The settings (.env, docker-compose.yml) changed and are not applied: {listed}. Run {_UP}",
        )
    return ok(".env 已生效", "The containers run with the present settings")


def disk(facts: AllFacts) -> CheckResult:
    """Check the room on each disk that holds data or backups; the worst counts."""
    order = list(Status)
    return max((_room(disk) for disk in facts.host.disks), key=lambda result: order.index(result.status))


def _room(disk: Disk) -> CheckResult:
    percent = 100 * disk.free // max(disk.size, 1)
    inodes = 100 * disk.inodes_free // disk.inodes if disk.inodes else 100  # some file systems do not count them
    size = f"{disk.free / GIB:.1f} GiB" if disk.free >= GIB else f"{disk.free // MIB} MiB"
    zh = f"{disk.folder} 可用 {size}（{percent}%），inode 可用 {inodes}%"
    en = f"{disk.folder} has {size} free ({percent}%), {inodes}% of its inodes"
    if disk.free < FREE_FAIL or inodes < INODES_PERCENT_FAIL:
        return fail(f"磁盘将满：{zh}", f"Nearly full: {en}")
    if disk.free < FREE_WARN or (percent < PERCENT_WARN and disk.free < PLENTY) or inodes < INODES_PERCENT_WARN:
        return warn(f"磁盘空间不多：{zh}", f"Little space left: {en}")
    return ok(zh, en)


def permissions(facts: AllFacts) -> CheckResult:
    """Check that nobody but their owners can read secrets, private keys and backups; in the trial, the keys."""
    host = facts.host_if_any
    modes = facts.service.key_modes if host is None else host.modes
    exposed = [f"{path} {mode:o}" for path, mode in modes.items() if mode & _OTHERS]
    if exposed:
        listed = listing(exposed)
        return fail(
            f"其他用户可读：{listed}。请执行 chmod go= 收回", f"Readable by others: {listed}. Run chmod go= on them"
        )
    if host is None:
        return ok("签名密钥仅服务可读", "Only the service can read the signing keys")
    private = PRIVATE if host.setting("KADUN_KEYS") == "database" else (*PRIVATE, _KEYRING)
    if unseen := ", ".join(path for path in private if path not in modes):
        raise NotCheckedError(
            f"看不到或缺少 {unseen}（请用 root 运行）", f"missing or not visible: {unseen} (try as root)"
        )
    return ok("密钥与备份仅属主可读", "Only their owners can read secrets, private keys and backups")


_OF_DOCKER = re.compile("(COMPOSE|DOCKER)_.*|.*_(PROXY|proxy)")
"""Names that Docker and Compose read from .env themselves."""


def env_names(facts: AllFacts) -> CheckResult:
    """Check that each line of .env is a setting that somebody reads."""
    host, known = facts.host, names(By.DOTENV)
    unknown = [name for name in host.settings if name not in known and not _OF_DOCKER.fullmatch(name)]
    near = {name: get_close_matches(name.upper(), known, n=1, cutoff=0.8) for name in unknown}
    misspelt = [f"{name} → {found[0]}" for name, found in near.items() if found]
    lines = [f"line {number}" for number in host.unreadable_lines]
    if misspelt or lines:
        listed = listing([*lines, *misspelt])
        return fail(
            f".env 中有写错的名称，或不是“名称=值”的行：{listed}",
            f"Misspelt names, or lines that are not NAME=VALUE, in .env: {listed}",
        )
    if unknown:
        return warn(f"卡盾不认识 .env 中的 {listing(unknown)}", f"Kadun has no setting {listing(unknown)}: see .env")
    return ok(".env 中的名称无误", "Every name in .env is a setting")
