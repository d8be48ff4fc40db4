"""The version of the SDK and the server, which read it here; a test compares the image's label."""

__version__ = "1.0.0"
