"""URLs and escaping in templates."""

from app.console import rendering


def test_empty_parameters_are_left_out_of_urls() -> None:
    assert (
        rendering.url("/admin/cards", status=None, q="", batch="a b&c", page=0) == "/admin/cards?batch=a+b%26c&page=0"
    )


def test_control_and_bidirectional_characters_are_shown_escaped() -> None:
    assert rendering._harmless("a\u202eb\x1b") == "a\\u202eb\\x1b"  # noqa: SLF001
    assert str(rendering._lines(["<b>", "\u202e"])) == "&lt;b&gt;\n\\u202e"  # noqa: SLF001
