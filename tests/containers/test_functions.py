"""Core functions: their results, their isolation, and recovery from failures."""

import json
import os
from typing import Any

import kadun
import pytest

from tests.support.hosts.servers import Program
from tests.support.hosts.stack import SECRETS, Stack, run
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

PACKAGES = "/var/lib/kadun/functions-packages"


def patient(program: Program, stack: Stack) -> kadun.Client:
    """A client with a longer time-out than by default: `execute` is not repeated, and the machine may be busy."""
    return program.client_of(stack, timeout_seconds=60)


def look(stack: Stack, *, addresses: list[tuple[str, int]], folders: list[str], paths: list[str]) -> dict[str, Any]:
    """Return what the vendor's code can see and do."""
    arguments = {"addresses": addresses, "folders": folders, "paths": paths}
    seen: dict[str, Any] = stack.cardctl("function", "run", "看", "--arguments", json.dumps(arguments))
    return seen


def address_of_the_database(stack: Stack) -> str:
    (endpoint,) = stack.inspect("database")["NetworkSettings"]["Networks"].values()
    return str(endpoint["IPAddress"])


def test_a_client_gets_the_result_of_a_function(stack: Stack, program: Program) -> None:
    assert patient(program, stack).execute("加一", {"number": 41}) == {"sum": 42, "card": program.card}
    with pytest.raises(kadun.FunctionNotFound):
        patient(program, stack).execute("没有", {})


def test_a_function_has_no_secret_no_key_no_database_and_no_writable_folder(stack: Stack) -> None:
    addresses = [
        *(("database", 5432), (address_of_the_database(stack), 5432)),
        *(("127.0.0.1", stack.https_port), ("172.17.0.1", 22)),
    ]
    hidden = [
        "/run/secrets", "/var/lib/kadun/keys", "/var/lib/kadun/files", "/run/kadun", "/var/run/docker.sock",
        "/var/lib/postgresql/data", "/etc/nginx/certificates",
    ]  # fmt: skip
    folders = ["/", "/srv/kadun/app", "/var/lib/kadun/functions", PACKAGES, "/etc", "/var/tmp"]
    seen = look(stack, addresses=addresses, folders=folders, paths=[*hidden, "/var/lib/kadun/functions/vendor.py"])
    assert seen["connected"] == []
    assert seen["interfaces"] == ["lo"]
    assert seen["written"] == []
    assert seen["present"] == ["/var/lib/kadun/functions/vendor.py"]
    assert seen["sockets"] == []  # it cannot even look into that folder
    kadun_mounts = {mount for mount in seen["mounts"] if "kadun" in mount or "secret" in mount}
    assert kadun_mounts == {"/var/lib/kadun/functions", PACKAGES, "/run/kadun-functions"}
    assert int(seen["status"]["CapEff"], 16) == 0
    assert seen["status"]["NoNewPrivs"].strip() == "1"
    assert "0" not in seen["status"]["Uid"].split()
    told = json.dumps(seen)
    assert [name for name in SECRETS if (stack.folder / "secrets" / name).read_text().strip() in told] == []
    assert not {"DATABASE_URL", "KERNAL_DATA_KEY"} & {name.removesuffix("_FILE") for name in seen["environment"]}
    assert seen["environs"]


def test_only_the_launcher_and_the_zygote_can_change_user_ids(stack: Stack) -> None:
    container = stack.inspect("functions")["HostConfig"]
    assert sorted(name.removeprefix("CAP_") for name in container["CapAdd"]) == ["KILL", "SETGID", "SETUID"]
    uid = (stack.folder / ".env").read_text().partition("\nKADUN_UID=")[2].split()[0]

    def of_service() -> list[str]:
        seen = [status for _, status in stack.processes("functions") if status["Uid"].split()[0] == uid]
        return sorted(status["CapEff"].lstrip("0") for status in seen)

    # Of the server; SETGID and SETUID of the zygote. The former zygote ends a moment after a reload.
    wait_for(lambda: of_service() == ["", "c0"])
    assert {status["NoNewPrivs"] for _, status in stack.processes("functions")} == {"1"}


def test_even_root_in_the_container_sees_no_secret(stack: Stack) -> None:
    for user in ("", "root"):
        look_around = "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; ls -R /run /var/lib/kadun; mount"
        seen = stack.execute("functions", "sh", "-c", look_around, user=user, check=False).stdout
        assert "KADUN_FUNCTIONS_SOCKET=" in seen
        assert "vendor.py" in seen
        texts = [(stack.folder / "secrets" / name).read_text().strip() for name in SECRETS]
        words = ["KERNAL_DATA_KEY", "DATABASE_URL", "keyring", "secrets", "kadun.sock"]
        assert [word for word in texts + words if word in seen] == []
        written = stack.execute("functions", "touch", "/var/lib/kadun/functions/x", user=user, check=False)
        assert "Read-only file system" in written.stderr
    removed = stack.execute("app", "rm", "/run/kadun-functions/functions.sock", check=False)
    assert "Read-only file system" in removed.stderr, "nor can the app replace that service's socket"


@pytest.mark.parametrize("children", [0, 20])
def test_a_function_that_takes_the_containers_memory_is_ended_and_the_service_goes_on(
    stack: Stack, program: Program, children: int
) -> None:
    before = stack.inspect("functions")
    arguments = json.dumps({"children": children})
    ran = stack.script("cardctl", "function", "run", "占内存", "--arguments", arguments, check=False)
    assert ran.returncode == 1
    if not children:
        assert "its process was ended by SIGKILL" in ran.stderr
    after = stack.inspect("functions")
    assert (after["RestartCount"], after["State"]["Pid"]) == (before["RestartCount"], before["State"]["Pid"])
    assert patient(program, stack).execute("加一", {"number": 1})["sum"] == 2


def test_with_a_network_functions_reach_the_internet_but_not_the_database(stack: Stack) -> None:
    dotenv = stack.folder / ".env"
    before = dotenv.read_text()
    bridge = run(
        "docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"
    ).stdout.strip()
    dotenv.write_text(f"{before}KADUN_FUNCTIONS_NETWORK=bridge\n")
    try:
        stack.up()
        asked = [(address_of_the_database(stack), 5432), (bridge, stack.https_port)]
        # Docker drops the rules between its networks for milliseconds whenever a network is made on this machine.
        wait_for(
            lambda: look(stack, addresses=asked, folders=[], paths=[])["connected"] == [[bridge, stack.https_port]], 120
        )
    finally:
        dotenv.write_text(before)
        stack.up()


def test_a_killed_functions_service_restarts(stack: Stack, program: Program) -> None:
    before = stack.inspect("functions")
    os.kill(before["State"]["Pid"], 9)
    # The engine counts a restart when the process ends, and forgets its health when the next begins.
    wait_for(lambda: stack.inspect("functions")["State"]["StartedAt"] != before["State"]["StartedAt"])
    wait_for(lambda: stack.inspect("functions")["State"]["Health"]["Status"] == "healthy", 240)
    assert stack.inspect("functions")["RestartCount"] > before["RestartCount"]
    assert patient(program, stack).execute("加一", {"number": 1})["sum"] == 2
