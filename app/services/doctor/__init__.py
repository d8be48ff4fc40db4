"""`cardctl doctor`: what is gathered (facts, gather) and what it means (the other modules, pure functions)."""

from app.services.doctor.facts import Facts, HostFacts
from app.services.doctor.finding import Finding, Status
from app.services.doctor.judge import examine, examine_host

__all__ = ["Facts", "Finding", "HostFacts", "Status", "examine", "examine_host"]
