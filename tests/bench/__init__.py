"""The Python behind scripts/bench.sh; docs/performance.md says what each figure means."""


class BenchError(Exception):
    """A figure that cannot be had, or would be wrong. The message is one line for the person who asked."""
