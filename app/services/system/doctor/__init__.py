"""The checks of `cardctl doctor`: `facts` and `gather` collect, the other modules check, `checks` lists every check."""

from app.services.system.doctor.checks import run_checks
from app.services.system.doctor.facts import AllFacts, CheckResult, HostFacts, Status

__all__ = ["AllFacts", "CheckResult", "HostFacts", "Status", "run_checks"]
