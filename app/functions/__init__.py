"""The vendor's functions (PROTOCOL, section 3, "Server-side core functions"): what their modules import."""

from app.functions.decorator import Caller, core_function

__all__ = ["Caller", "core_function"]
