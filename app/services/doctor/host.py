"""Checks of the host: containers, disk, permissions."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from app.services.doctor.facts import Container, Disk, HostFacts, Mode
from app.services.doctor.result import CheckResult, fail, ok, unchecked, warn

SERVICES = ("database", "app", "functions", "nginx")
GIB, MIB = 1 << 30, 1 << 20
FREE_FAIL, FREE_WARN, PERCENT_WARN, PLENTY = 512 * MIB, 2 * GIB, 10, 20 * GIB
INODES_PERCENT_FAIL, INODES_PERCENT_WARN = 2, 10
RESTARTED_LATELY = timedelta(days=1)
_OTHERS = 0o077
_SHOWN = 3


def _of(facts: HostFacts, service: str) -> Container | None:
    ours = (c for c in facts.containers if c.service == service and c.oneoff != "True")
    return next(ours, None)


def runs(facts: HostFacts, service: str) -> bool:
    """Tell whether a service's container runs, healthy or not."""
    container = _of(facts, service)
    return container is not None and container.state == "running"


def is_healthy(facts: HostFacts, service: str) -> bool:
    """Tell whether a service's container says that it is well."""
    container = _of(facts, service)
    return container is not None and container.state == "running" and container.health == "healthy"


def containers(facts: HostFacts) -> CheckResult:
    """Every service runs and is healthy, and the migration went through; or it has moved away, and none should."""
    if facts.moved_to is not None:
        at, _, place = facts.moved_to.partition(" ")
        return warn(
            "containers",
            f"服务已搬迁到 {place}（{at}），本机只回答 503。那边正常后 docker compose down；"
            "撤销：scripts/migrate-to.sh --resume-here",
            f"The service moved to {place} at {at}; here is a 503 only. When all is well there: docker compose down; "
            "to undo the move: scripts/migrate-to.sh --resume-here",
        )
    wrong, starting = [], []
    for service in SERVICES:
        container = _of(facts, service)
        if container is None:
            wrong.append(f"{service}: missing")
        elif container.state != "running":
            memory = ", out of memory" if container.out_of_memory else ""
            wrong.append(f"{service}: {container.state} (exit {container.exit_code}{memory})")
        elif container.health == "starting":
            starting.append(service)
        elif container.health not in (None, "healthy"):
            wrong.append(f"{service}: {container.health}")
    migration = _of(facts, "migrate")
    if migration is not None and migration.exit_code != 0:
        wrong.append(f"migrate: exit {migration.exit_code}")
    if wrong:
        listed = "; ".join(wrong)
        return fail(
            "containers",
            f"{listed}。请查看 docker compose logs，再执行 docker compose up -d --wait",
            f"{listed}. Look at docker compose logs, then docker compose up -d --wait",
        )
    if starting:
        listed = ", ".join(starting)
        return warn("containers", f"正在启动：{listed}", f"Starting still: {listed}")
    return ok("containers", "全部运行且健康", "All run and are healthy")


def restarts(facts: HostFacts, now: datetime) -> CheckResult:
    """No container died by itself within a day."""
    lately = [
        f"{c.service} ×{c.restarts}"
        for c in facts.containers
        if c.restarts and now - datetime.fromisoformat(c.started) < RESTARTED_LATELY
    ]
    if lately:
        listed = ", ".join(lately)
        return warn(
            "restarts",
            f"一天内曾自行重启：{listed}。请查看 docker compose logs",
            f"Came back by itself within a day: {listed}. Look at docker compose logs",
        )
    return ok("restarts", "一天内没有自行重启", "None came back by itself within a day")


def images(facts: HostFacts) -> CheckResult:
    """Each container is of the image that its name stands for now."""
    old = [
        c.service
        for c in facts.containers
        if c.oneoff != "True" and facts.images.get(c.image_name) not in (None, c.image)
    ]
    if old:
        listed = ", ".join(sorted(old))
        return warn(
            "images",
            f"容器仍是旧镜像：{listed}。执行 docker compose up -d --wait 以启用新镜像",
            f"Still of an older image: {listed}. docker compose up -d --wait takes up the new one",
        )
    if not facts.images:
        return unchecked("images", "没有容器", "there are no containers")
    return ok("images", "容器与镜像一致", "The containers are of the images that are here")


def program(facts: HostFacts, running: str) -> CheckResult:
    """The program that runs is the one in this checkout."""
    if facts.program is None:
        return unchecked("program", "无法读取 app/", "app/ cannot be read")
    if facts.program != running:
        return warn(
            "program",
            "运行中的程序与此目录的代码不同：用 scripts/upgrade.sh 升级",
            "What runs is not the program of this checkout: scripts/upgrade.sh brings it up",
        )
    return ok("program", "运行的正是此目录的程序", "What runs is the program of this checkout")


def disk(facts: Disk) -> CheckResult:
    """There is room for bytes and for files."""
    check = f"disk-{facts.name}"
    if facts.size is None or facts.free is None:
        return unchecked(check, f"df 看不到 {facts.folder}", f"df cannot see {facts.folder}")
    percent = 100 * facts.free // max(facts.size, 1)
    free = f"{facts.free / GIB:.1f} GiB" if facts.free >= GIB else f"{facts.free // MIB} MiB"
    inodes = 100 if facts.inodes == 0 else 100 * facts.inodes_free // facts.inodes
    zh = f"{facts.folder} 可用 {free}（{percent}%），inode 可用 {inodes}%"
    en = f"{facts.folder} has {free} free ({percent}%), {inodes}% of its inodes"
    if facts.free < FREE_FAIL or inodes < INODES_PERCENT_FAIL:
        return fail(check, f"磁盘将满：{zh}", f"Nearly full: {en}")
    if facts.free < FREE_WARN or (percent < PERCENT_WARN and facts.free < PLENTY) or inodes < INODES_PERCENT_WARN:
        return warn(check, f"磁盘空间不多：{zh}", f"Getting full: {en}")
    return ok(check, zh, en)


def secrets_in_env(facts: HostFacts) -> CheckResult:
    """.env, which everybody may read, holds no secret."""
    if facts.secrets_in_env:
        return fail(
            "env",
            f".env 中疑似有密码或密钥：{facts.secrets_in_env}。请移入 secrets/ 并更换",
            f".env seems to hold a secret: {facts.secrets_in_env}. Move it into secrets/ and change it",
        )
    return ok("env", ".env 中没有密码或密钥", ".env holds no secret")


def permissions(facts: HostFacts, modes: Sequence[Mode]) -> CheckResult:
    """Secrets, private keys and backups are their owners' alone."""
    seen = {path: mode for mode, _, path in (line.split(" ", 2) for line in (facts.permissions or "").splitlines())}
    open_to_others = [f"{path} {mode}" for path, mode in seen.items() if mode != "?" and int(mode, 8) & _OTHERS]
    open_to_others += too_open(m for m in modes if seen.get(_on_host(m.path), "?") == "?")
    if open_to_others:
        listed = ", ".join(open_to_others[:_SHOWN]) + (" …" if len(open_to_others) > _SHOWN else "")
        return fail(
            "permissions",
            f"其他用户可读：{listed}。请执行 chmod go= 收回",
            f"Open to others: {listed}. Take it back with chmod go=",
        )
    from_inside = {_on_host(m.path) for m in modes if m.mode is not None}
    unseen = [path for path, mode in seen.items() if mode == "?" and path not in from_inside]
    if unseen or not seen:
        listed = ", ".join(unseen[:_SHOWN])
        return unchecked(
            "permissions", f"看不到或缺少 {listed}（请用 root 运行）", f"not seen or missing: {listed} (try as root)"
        )
    return ok("permissions", "密钥与备份仅属主可读", "Secrets, private keys and backups are their owners' alone")


def too_open(modes: Iterable[Mode]) -> list[str]:
    """Return those that allow more than they may, each with its mode."""
    return [f"{m.path} {m.mode:o}" for m in modes if m.mode is not None and m.mode & ~m.allowed]


def _on_host(path: str) -> str:
    """Return a path of the key folder as the host calls it: the same folder is mounted inside."""
    return "data/keys/keyring.json" if path.endswith(".json") else "data/keys"
