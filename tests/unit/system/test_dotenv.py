"""`setting` and `set_setting` of scripts/lib/common.sh: read and change .env."""

from pathlib import Path

import pytest

from tests.support.hosts.script_libraries import bash, checkout_in


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


def test_a_setting_is_changed_in_its_place_and_the_file_keeps_its_mode_and_leaves_no_other(checkout: Path) -> None:
    text, file = "# made by init.sh\nA=1\n#B=2\nC=3\nA=4\n", checkout / ".env"
    file.chmod(0o640)
    for before, name, value, after in (
        (text, "A", r"a \\n & b", "# made by init.sh\nA=a \\\\n & b\n#B=2\nC=3\n"),
        (text, "B", "new", "# made by init.sh\nA=1\nB=new\nC=3\nA=4\n"),
        ("A=1\r\nB=2\r\n", "B", "new", "A=1\r\nB=new\n"),
        ("A=1", "C", "new", "A=1\nC=new\n"),
    ):
        file.write_text(before, newline="")
        assert bash(checkout, f"set_setting {name} '{value}'").returncode == 0
        assert file.read_bytes().decode() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(checkout.glob(".env*")) == [file]
    full = bash(checkout, "awk() { return 2; }\nset_setting C 5 && echo changed")  # the disk
    assert (full.stdout, file.read_text()) == ("", "A=1\nC=new\n")


def test_every_form_is_read_as_docker_compose_reads_it(checkout: Path) -> None:
    for expected, lines in (
        ("/disk", ["A=/disk", 'A="/disk"', "A=  /disk", "A = /disk", "export A=/disk", "  A=/disk"]),
        ("/disk", ["A=/other\nA=/disk", "A=/disk\r", 'A="/disk"\r', "A=/disk # it\r"]),
        ("/disk", ["A=/disk # it", 'A="/disk" # it']),
        ("/disk\t# it", ["A=/disk\t# it"]),
        ("/disk#2", ["A=/disk#2"]),
        ("/a disk # 2", ['A="/a disk # 2"', "A='/a disk # 2'"]),
        ("", ["A=", 'A=""']),
        ("a b", ["A=a b  "]),
        ("it's", ["A=it's", 'A="it\'s"']),
        ('a "b" c', ['A=a "b" c']),
        ("https://a.example/x?y=1&z=2#part", ["A=https://a.example/x?y=1&z=2#part"]),
    ):
        for line in lines:
            (checkout / ".env").write_text(f"# a comment\n{line}\n", newline="")
            assert bash(checkout, "setting A").stdout == expected, line


def test_the_default_stands_in_for_an_unset_or_empty_setting(checkout: Path) -> None:
    for text, expected in (("", "80"), ('A="" # none\n', "80"), ("A=443\n", "443")):
        (checkout / ".env").write_text(text)
        assert bash(checkout, "setting A 80").stdout == expected
    (checkout / ".env").unlink()
    assert bash(checkout, "setting A 80").stdout == "80"
