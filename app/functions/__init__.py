"""What the modules of the vendor's functions import (docs/protocol.md, "Core functions")."""

from app.functions.decorator import Caller, core_function

__all__ = ["Caller", "core_function"]
