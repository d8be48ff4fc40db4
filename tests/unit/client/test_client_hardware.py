"""The machine's own string."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from kadun import Client, HardwareUnknown, hardware

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.client.forge import FakeServer

MACHINE_ID = "e08d2021fbdd6f894fde550c98aff54d"


@pytest.fixture
def identifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine-id file of our own in place of the system's."""
    path = tmp_path / "machine-id"
    path.write_text(f"{MACHINE_ID}\n", encoding="ascii")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hardware, "MACHINE_ID_FILES", (tmp_path / "absent", path))
    return path


def test_the_string_is_stable_and_hides_the_identifier(identifier: Path) -> None:
    first = hardware.machine_string()
    assert re.fullmatch(r"kadun1:[0-9a-f]{64}", first)
    assert hardware.machine_string() == first
    assert identifier.read_text(encoding="ascii").strip() not in first


def test_another_machine_has_another_string(identifier: Path) -> None:
    first = hardware.machine_string()
    identifier.write_text(MACHINE_ID[::-1], encoding="ascii")
    assert hardware.machine_string() != first


@pytest.mark.parametrize(
    "content", ["", "\n", "uninitialized\n", "0" * 32, "00000000-0000-0000-0000-000000000000", "é"]
)
def test_a_machine_without_an_identifier_is_said_to_have_none(content: str, identifier: Path) -> None:
    identifier.write_text(content, encoding="utf-8")
    with pytest.raises(HardwareUnknown, match="hardware="):
        hardware.machine_string()


def test_the_client_uses_it_unless_told_otherwise(
    identifier: Path, make_client: Callable[..., Client], server: FakeServer
) -> None:
    make_client(hardware=None).open()
    make_client(hardware="my own").open()
    assert [request["hardware"] for request in server.requests] == [hardware.machine_string(), "my own"]
    assert identifier.is_file()


def test_a_machine_without_an_identifier_still_opens_with_the_vendors_own_string(
    identifier: Path, make_client: Callable[..., Client]
) -> None:
    identifier.unlink()
    with pytest.raises(HardwareUnknown):
        make_client(hardware=None).open()
    assert make_client(hardware="my own").open().accepted


UUID = "6C1F5A52-8E4D-5F0B-9B39-4C7D5E0A1B2C"


@pytest.fixture
def ioreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of macOS' ioreg, printing what that prints."""
    path = tmp_path / "ioreg"
    path.write_text(f"""#!/bin/sh
cat <<'END'
+-o J293AP  <class IOPlatformExpertDevice, id 0x100000247, registered, matched, active>
    {{
      "manufacturer" = <"Apple Inc.">
      "IOPlatformUUID" = "{UUID}"
      "IOPlatformSerialNumber" = "C02XXXXXXXXX"
    }}
END
""")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(hardware, "IOREG", str(path))
    return path


def test_macos_is_known_by_its_platform_uuid(ioreg: Path) -> None:
    first = hardware.machine_string()
    ioreg.write_text(ioreg.read_text().replace("C02XXXXXXXXX", "C02YYYYYYYYY"))
    assert hardware.machine_string() == first
    ioreg.write_text(ioreg.read_text().replace(UUID, UUID[::-1]))
    assert hardware.machine_string() != first


@pytest.mark.parametrize("script", ["#!/bin/sh\n", "#!/no/such/interpreter\n"])
def test_macos_without_a_platform_uuid_is_said_to_have_none(script: str, ioreg: Path) -> None:
    ioreg.write_text(script)
    with pytest.raises(HardwareUnknown):
        hardware.machine_string()


class Registry(ModuleType):
    """As much of Windows' winreg as is asked for; the 64-bit branch alone holds the MachineGuid."""

    KEY_READ, KEY_WOW64_64KEY, HKEY_LOCAL_MACHINE = 0x20019, 0x0100, 0x80000002

    def __init__(self, guid: str | None) -> None:
        super().__init__("winreg")
        self.guid = guid

    def OpenKey(  # noqa: N802 - as Windows has it
        self, root: int, path: str, _reserved: int, access: int
    ) -> nullcontext[str]:
        assert (root, access) == (self.HKEY_LOCAL_MACHINE, self.KEY_READ | self.KEY_WOW64_64KEY)
        return nullcontext(path)

    def QueryValueEx(self, key: str, name: str) -> tuple[str, int]:  # noqa: N802 - as Windows has it
        assert (key, name) == (r"SOFTWARE\Microsoft\Cryptography", "MachineGuid")
        if self.guid is None:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return self.guid, 1


def test_windows_is_known_by_its_machine_guid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    strings = set()
    for guid in (UUID.lower(), UUID.upper(), UUID[::-1]):  # the first two are one machine
        monkeypatch.setitem(sys.modules, "winreg", Registry(guid))
        strings.add(hardware.machine_string())
    assert len(strings) == 2


def test_windows_without_a_machine_guid_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "winreg", Registry(None))
    with pytest.raises(HardwareUnknown):
        hardware.machine_string()
