"""Metrics for Prometheus: call ``connect()`` in the ``ready()`` of an app of yours."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Histogram

from django_idempotency.contrib.outcomes import Event, observe
from django_idempotency.signals import purged

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

OPERATIONS = Counter(
    "django_idempotency_operations",
    "Keyed calls by outcome: completed, released, replayed, or the code of the refusal.",
    ("outcome", "view", "method"),
)
WAIT = Histogram(
    "django_idempotency_wait_seconds",
    "How long a duplicate waited for the first answer, where it waited at all.",
    ("outcome", "view"),
    buckets=_BUCKETS,
)
PURGED = Counter("django_idempotency_purged_records", "Records that were deleted.", ("database",))


def connect() -> None:
    """Count from now on, into the default registry; calling it again changes nothing."""
    observe(_count, "django_idempotency.contrib.prometheus")
    purged.connect(_count_purged, dispatch_uid="django_idempotency.contrib.prometheus")


def _count(event: Event) -> None:
    OPERATIONS.labels(event.outcome, event.view, event.method).inc()
    if event.waited:
        WAIT.labels(event.outcome, event.view).observe(event.waited)


def _count_purged(count: int, using: str, **kwargs: Any) -> None:
    PURGED.labels(using).inc(count)
