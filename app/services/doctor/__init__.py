"""`cardctl doctor`: what is gathered (facts, gather) and what it means (the other modules, pure functions)."""

from app.services.doctor.facts import Facts, HostFacts
from app.services.doctor.judge import examine, examine_host
from app.services.doctor.result import CheckResult, Status

__all__ = ["CheckResult", "Facts", "HostFacts", "Status", "examine", "examine_host"]
