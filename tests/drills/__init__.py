"""Failures of machines under load: tests/cluster asserts what must hold, `python -m tests.drills` measures."""
