"""What PyInstaller packages beside the SDK's modules."""  # noqa: N999 - the name that it looks for

from pathlib import Path

datas = [(str(Path(__file__).parents[1] / "messages.json"), "kadun")]
