"""The SDK of Kadun: verifies a card, and decrypts the core data of a vendor's program.

The names below are the public interface; everything else may change between releases.
"""

from kadun.client import Client
from kadun.errors import (
    CardRejected,
    CoreFunctionError,
    DownloadFailed,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimeout,
    HardwareUnknown,
    KadunError,
    RequestRefused,
    ServerUnreachable,
    UnsealFailed,
    UntrustedAnswer,
    UpdateRequired,
)
from kadun.heartbeat import Heartbeat
from kadun.sealing import Secret
from kadun.selfservice import CardStatus, SelfServiceRefused
from kadun.store import PLATFORM_FOLDER
from kadun.verdict import Verdict
from kadun.version import __version__

__all__ = [
    "PLATFORM_FOLDER",
    "CardRejected",
    "CardStatus",
    "Client",
    "CoreFunctionError",
    "DownloadFailed",
    "FunctionFailed",
    "FunctionNotFound",
    "FunctionTimeout",
    "HardwareUnknown",
    "Heartbeat",
    "KadunError",
    "RequestRefused",
    "Secret",
    "SelfServiceRefused",
    "ServerUnreachable",
    "UnsealFailed",
    "UntrustedAnswer",
    "UpdateRequired",
    "Verdict",
    "__version__",
]
