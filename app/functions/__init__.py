"""What the modules of the vendor's functions import (PROTOCOL, section 3, "Server-side core functions")."""

from app.functions.decorator import Caller, core_function

__all__ = ["Caller", "core_function"]
