"""The version of Kadun: this file is where a release changes it.

The SDK, its package and the server (`app/runtime/version.py`) read it here. The image's label cannot: a test compares
the two.
"""

__version__ = "1.0.0"
