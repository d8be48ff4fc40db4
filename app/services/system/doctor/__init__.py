"""The checks of `cardctl doctor`: `facts` and `gather` collect, the other modules check, `checks` lists every check."""

from app.services.system.doctor.checks import run_checks
from app.services.system.doctor.facts import Facts, HostFacts
from app.services.system.doctor.results import CheckResult, Status

__all__ = ["CheckResult", "Facts", "HostFacts", "Status", "run_checks"]
