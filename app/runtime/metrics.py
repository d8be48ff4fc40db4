"""Metrics for Prometheus, summed over gunicorn's processes where PROMETHEUS_MULTIPROC_DIR is set."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

from app.domain.codes import Code

verdicts = Counter("kadun_verdicts_total", "Verdicts given, by code.", ["code"])
problems = Counter("kadun_problems_total", "Answers that are no verdict, by code.", ["code"])
refusals_not_journalled = Counter(
    "kadun_refusals_not_journalled_total",
    "Rejections over the share of an address or a card, counted here and not journalled.",
)
verify_seconds = Histogram(
    "kadun_verify_seconds",
    "Time from a verify request's arrival in the app to its verdict.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


_of_code = {code: verdicts.labels(code) for code in Code}  # looked up once, not at every request


def count_verdict(code: Code) -> None:
    """Count one verdict."""
    _of_code[code].inc()


def render() -> bytes:
    """Return the metrics of all processes in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
