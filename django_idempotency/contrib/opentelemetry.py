"""OpenTelemetry, on spans and as metrics: call ``connect()`` in the ``ready()`` of an app of yours."""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics, trace

from django_idempotency import __version__
from django_idempotency.contrib.outcomes import Event, observe
from django_idempotency.signals import purged

_meter = metrics.get_meter("django_idempotency", __version__)
_operations = _meter.create_counter(
    "idempotency.operations", unit="{operation}", description="Keyed calls by outcome."
)
_wait = _meter.create_histogram(
    "idempotency.wait.duration", unit="s", description="How long a duplicate waited for the first answer."
)
_purged = _meter.create_counter(
    "idempotency.purged", unit="{record}", description="Records that were deleted."
)


def connect() -> None:
    """Tell spans and metrics from now on; calling it again changes nothing.

    Providers may be set before or after. No attribute has a key, a payload, a principal or a body.
    """
    observe(_tell, "django_idempotency.contrib.opentelemetry")
    purged.connect(_tell_purged, dispatch_uid="django_idempotency.contrib.opentelemetry")


def _tell(event: Event) -> None:
    named = {
        "idempotency.outcome": event.outcome,
        "idempotency.view": event.view,
        "http.request.method": event.method,
    }
    trace.get_current_span().set_attributes(
        {
            "idempotency.outcome": event.outcome,
            "idempotency.view": event.view,
            "idempotency.record.id": str(event.record_id),
        }
    )
    _operations.add(1, named)
    if event.waited:
        _wait.record(event.waited, named)


def _tell_purged(count: int, using: str, **kwargs: Any) -> None:
    _purged.add(count, {"db.name": using})
