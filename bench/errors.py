"""What stops a measurement, in one line."""


class BenchError(Exception):
    """A figure that cannot be had, or would be wrong. The message is one line for the person who asked."""
