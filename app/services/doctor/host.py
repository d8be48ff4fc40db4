"""Checks of the host: containers, program, disks, permissions."""

from datetime import datetime, timedelta

from app.services.doctor.facts import Container, Facts, HostFacts, NotGatheredError
from app.services.doctor.results import CheckResult, NotCheckedError, fail, ok, warn

SERVICES = ("database", "app", "functions", "webhooks", "nginx")
PRIVATE = ("secrets", "https_certificates/privkey.pem", "data/keys")
_KEYRING = "data/keys/keyring.json"
GIB, MIB = 1 << 30, 1 << 20
FREE_FAIL, FREE_WARN, PERCENT_WARN, PLENTY = 512 * MIB, 2 * GIB, 10, 20 * GIB
INODES_PERCENT_FAIL, INODES_PERCENT_WARN = 2, 10
RECENTLY = timedelta(days=1)
_OTHERS = 0o077
_ANYBODY = 0o001
_MAX_LISTED = 3
_MANY_RESTARTS = 3  # as many as the scripts wait for (scripts/lib/stack.sh)


def containers(facts: Facts) -> CheckResult:
    """Check that every service runs and is healthy, and that the migration succeeded; or that the service has moved."""
    host = facts.host
    if host.other_projects:
        return _of_several_projects(host.other_projects)
    if host.moved_to is not None:
        at, _, place = host.moved_to.partition(" ")
        app = host.container("app")
        if app is not None and (app.state, app.health) == ("running", "healthy"):
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
    judged = {service: _fault(host.container(service)) for service in SERVICES}
    wrong = [f"{service}: {fault}" for service, (fault, _) in judged.items() if fault]
    remedies = [f"docker compose {remedy} {service}" for service, (_, remedy) in judged.items() if remedy]
    migration = host.container("migrate")
    if migration is not None and migration.exit_code != 0:
        wrong.append(f"migrate: exit {migration.exit_code}")
    if wrong:
        listed = "; ".join(wrong)
        commands = " && ".join([*remedies, "docker compose up -d --wait"])
        return fail(
            f"{listed}。请查看 docker compose logs，再执行 {commands}",
            f"{listed}. See docker compose logs, then run {commands}",
        )
    starting = [service for service in SERVICES if (c := host.container(service)) and c.health == "starting"]
    if starting:
        listed = ", ".join(starting)
        return warn(f"正在启动：{listed}", f"Still starting: {listed}")
    return ok("全部运行且健康", "All containers run and are healthy")


def _of_several_projects(others: list[str]) -> CheckResult:
    listed = ", ".join(others)
    return fail(
        f"其他项目也有此目录的容器：{listed}。两个项目不能共用 data/，先不要启动任何容器。请把 .env 中的 "
        "COMPOSE_PROJECT_NAME 改为一直在服务的项目，再移除其余项目的容器：docker compose -p 项目名 down",
        f"Other projects have containers of this folder, too: {listed}. Two must not share data/: start nothing. Set "
        "COMPOSE_PROJECT_NAME in .env to the project that has been serving, then remove the containers of the "
        "others: docker compose -p PROJECT down",
    )


def _fault(container: Container | None) -> tuple[str, str]:
    """Say what is wrong with a container, and what Compose must do before `up`, which leaves a running one alone."""
    if container is None:
        return "missing", ""
    if container.state == "paused":
        return "paused", "unpause"
    if container.state != "running":
        memory = ", out of memory" if container.out_of_memory else ""
        return f"{container.state} (exit {container.exit_code}{memory})", ""
    if container.health == "starting" and container.restarts >= _MANY_RESTARTS:
        return f"restarted {container.restarts} times and not ready", ""
    if container.health not in (None, "healthy", "starting"):
        return container.health, "restart"
    return "", ""


def restarts(facts: Facts) -> CheckResult:
    """Check that no container has restarted by itself within a day."""
    listed = ", ".join(
        f"{c.service} ×{c.restarts}"
        for c in facts.host.containers
        if c.restarts and facts.host.now - datetime.fromisoformat(c.started) < RECENTLY
    )
    if listed:
        return warn(
            f"一天内曾自行重启：{listed}。请查看 docker compose logs",
            f"Restarted by itself within a day: {listed}. See docker compose logs",
        )
    return ok("一天内没有自行重启", "No container restarted by itself within a day")


def images(facts: Facts) -> CheckResult:
    """Check that each container runs the image that its name stands for now."""
    host = _own_host(facts)
    if not host.images:
        raise NotCheckedError("没有容器", "there are no containers")
    outdated = [
        c.service
        for c in host.containers
        if c.oneoff != "True" and host.images.get(c.image_name) not in (None, c.image)
    ]
    if outdated:
        listed = ", ".join(sorted(outdated))
        return warn(
            f"容器仍是旧镜像：{listed}。执行 docker compose up -d --wait 以启用新镜像",
            f"These containers run an older image: {listed}. Run docker compose up -d --wait to use the new one",
        )
    return ok("容器与镜像一致", "All containers run the current images")


def env_applied(facts: Facts) -> CheckResult:
    """Check that the containers run with what .env and docker-compose.yml say now."""
    host = _own_host(facts)
    if not host.config_hashes:
        raise NotCheckedError("docker compose config 失败", "docker compose config fails")
    outdated = [
        c.service
        for c in host.containers
        if c.oneoff != "True" and c.service in SERVICES and host.config_hashes.get(c.service) != c.config_hash
    ]
    if outdated:
        listed = ", ".join(sorted(outdated))
        return warn(
            f"设置已改但尚未生效：{listed}。执行 docker compose up -d --wait",
            f"The settings (.env, docker-compose.yml) changed and are not applied: {listed}. "
            "Run docker compose up -d --wait",
        )
    return ok(".env 已生效", "The containers run with the present settings")


def _own_host(facts: Facts) -> HostFacts:
    """Return the host's facts for a check that advises `up`: not while another project has containers here."""
    if facts.host.other_projects:
        raise NotCheckedError("先解决 containers 一项", "resolve `containers` first")
    return facts.host


def mounts(facts: Facts) -> CheckResult:
    """Check that the app sees the present keys, files and secrets, not ones that were replaced under it."""
    inside, outside = facts.service.inodes, facts.host.inodes
    compared = [path for path in inside if path in outside]
    if not compared:
        raise NotCheckedError("看不到（请用 root 运行）", "not visible (try as root)")
    replaced = ", ".join(path for path in compared if inside[path] != outside[path])
    if replaced:
        return fail(
            f"运行中的服务看到的仍是被替换前的 {replaced}：执行 docker compose restart app nginx",
            f"Replaced under the running service, which still sees the old one: {replaced}. "
            "Run docker compose restart app nginx",
        )
    return ok("服务看到的密钥与文件是现有的", "The service sees the present keys and files")


def program(facts: Facts) -> CheckResult:
    """Check that the program that runs is the one in this checkout."""
    checkout = facts.host.program
    if not checkout:
        raise NotCheckedError("无法读取 app/", "app/ cannot be read")
    if checkout != facts.service.program:
        return warn(
            "运行中的程序与此目录的代码不同：用 scripts/upgrade.sh 升级",
            "The running program is not the one in this checkout: run scripts/upgrade.sh",
        )
    return ok("运行的正是此目录的程序", "The running program is the one in this checkout")


def disk_data(facts: Facts) -> CheckResult:
    """Check the room on the disk of data/."""
    return _disk(facts, "data")


def disk_database(facts: Facts) -> CheckResult:
    """Check the room on the disk of data/postgres, where that is another one than that of data/."""
    if "database" not in facts.host.disks:
        raise NotGatheredError
    return _disk(facts, "database")


def disk_backups(facts: Facts) -> CheckResult:
    """Check the room on the disk of the backups."""
    return _disk(facts, "backups")


def _disk(facts: Facts, name: str) -> CheckResult:
    disk = facts.host.disks[name]
    if disk.block_bytes is None:
        raise NotCheckedError(f"无法查询 {disk.folder} 的空间", f"the free space of {disk.folder} is unknown")
    free = disk.blocks_free * disk.block_bytes
    percent = 100 * disk.blocks_free // max(disk.blocks, 1)
    inodes = 100 * disk.inodes_free // disk.inodes if disk.inodes else 100  # some file systems do not count them
    size = f"{free / GIB:.1f} GiB" if free >= GIB else f"{free // MIB} MiB"
    zh = f"{disk.folder} 可用 {size}（{percent}%），inode 可用 {inodes}%"
    en = f"{disk.folder} has {size} free ({percent}%), {inodes}% of its inodes"
    if free < FREE_FAIL or inodes < INODES_PERCENT_FAIL:
        return fail(f"磁盘将满：{zh}", f"Nearly full: {en}")
    if free < FREE_WARN or (percent < PERCENT_WARN and free < PLENTY) or inodes < INODES_PERCENT_WARN:
        return warn(f"磁盘空间不多：{zh}", f"Little space left: {en}")
    return ok(zh, en)


def permissions(facts: Facts) -> CheckResult:
    """Check that nobody but their owners can read secrets, private keys and backups.

    The service sees the key folder, too: it tells what the host may not see, and in the trial it tells all.
    """
    key_modes = facts.service_if_any.key_modes if facts.service_if_any else {}
    if facts.host_if_any is None:
        modes = dict(facts.service.key_modes)
    else:
        modes = {_on_host(path): mode for path, mode in key_modes.items()}
        for line in (facts.host.permissions or "").splitlines():
            mode, _, path = line.split(" ", 2)
            modes[path] = int(mode, 8)
    is_open = modes.pop("data", 0) & _ANYBODY
    exposed = [f"{path} {mode:o}" for path, mode in modes.items() if mode & _OTHERS]
    if exposed:
        listed = ", ".join(exposed[:_MAX_LISTED]) + (" …" if len(exposed) > _MAX_LISTED else "")
        return fail(
            f"其他用户可读：{listed}。请执行 chmod go= 收回", f"Readable by others: {listed}. Run chmod go= on them"
        )
    if facts.host_if_any is None:
        return ok("签名密钥仅服务可读", "Only the service can read the signing keys")
    private = PRIVATE if facts.host.setting("KADUN_KEYS") == "database" else (*PRIVATE, _KEYRING)
    unseen = ", ".join(path for path in private if path not in modes)
    if unseen:
        raise NotCheckedError(
            f"看不到或缺少 {unseen}（请用 root 运行）", f"missing or not visible: {unseen} (try as root)"
        )
    if is_open:
        return warn(
            "本机的其他用户可以进入 data/，读到核心功能的源码与授权文件：请执行 chmod o= data",
            "Other users of this machine can enter data/ and read the source of core functions and the licensed "
            "files: run chmod o= data",
        )
    return ok("密钥与备份仅属主可读", "Only their owners can read secrets, private keys and backups")


def _on_host(path: str) -> str:
    """Return the host's path of a path of the key folder, which is mounted inside."""
    return _KEYRING if path.endswith(".json") else "data/keys"
