"""Metrics and spans, told to the real client libraries by real requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest

from django_idempotency import signals
from django_idempotency.contrib import opentelemetry, prometheus
from django_idempotency.core.operations import Operation, Snapshot
from django_idempotency.engine import execute
from django_idempotency.exceptions import InProgress
from django_idempotency.execution import execute_once
from django_idempotency.models import IdempotencyRecord
from tests.factories import IdempotencyRecordFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

READER = InMemoryMetricReader()
SPANS = InMemorySpanExporter()
SECRET = "k3y-0f-a-cust0mer"
ROUTE = "probe/<str:act>/"


@pytest.fixture(scope="module", autouse=True)
def providers() -> None:
    """Set the SDK's providers, which a process can do once."""
    metrics.set_meter_provider(MeterProvider([READER]))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)


@pytest.fixture(autouse=True)
def connected() -> Iterator[None]:
    for each in (prometheus, opentelemetry, prometheus, opentelemetry):  # twice counts once
        each.connect()
    SPANS.clear()
    yield
    for name in ("prometheus", "opentelemetry"):
        for signal in (
            signals.completed,
            signals.released,
            signals.replayed,
            signals.rejected,
            signals.purged,
        ):
            signal.disconnect(dispatch_uid=f"django_idempotency.contrib.{name}")


def post(act: str, body: bytes = b"{}") -> int:
    headers = {"Idempotency-Key": f"{SECRET}-{act}"}
    return Client(headers=headers).post(f"/probe/{act}/", body, content_type="application/json").status_code


def counted() -> dict[tuple[str, str, str], float]:
    """Return Prometheus' counters by outcome, view and method."""
    return {
        (sample.labels["outcome"], sample.labels["view"], sample.labels["method"]): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "django_idempotency_operations_total"
    }


def measured(name: str) -> dict[tuple[Any, ...], Any]:
    """Return OpenTelemetry's points of a metric by their attributes."""
    data: Any = READER.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {
        tuple(value for _, value in sorted(point.attributes.items())): getattr(point, "value", None) or point
        for scope in scopes
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


def test_each_keyed_call_is_counted_by_outcome_and_view() -> None:
    before, measured_before = counted(), measured("idempotency.operations")
    assert [post("create"), post("create"), post("create", b'{"a":1}'), post("503")] == [201, 201, 422, 503]
    execute_once(lambda: 1, key=SECRET, scope="nightly")
    expected = {
        ("completed", ROUTE, "POST"): 1, ("replayed", ROUTE, "POST"): 1, ("released", ROUTE, "POST"): 1,
        ("fingerprint-mismatch", ROUTE, "POST"): 1, ("completed", "function:nightly", ""): 1,
    }  # fmt: skip
    after = counted()
    assert {
        each: after[each] - before.get(each, 0) for each in after if after[each] != before.get(each)
    } == expected
    told = {(method, outcome, view): count for (outcome, view, method), count in expected.items()}
    found = measured("idempotency.operations")
    assert {each: found[each] - measured_before.get(each, 0) for each in told} == told


def test_current_span_tells_the_outcome_and_the_record() -> None:
    tracer = trace.get_tracer("tests")
    for name in ("first", "retry"):
        with tracer.start_as_current_span(name):
            post("create")
    record = IdempotencyRecord.objects.get()
    for span, outcome in zip(SPANS.get_finished_spans(), ("completed", "replayed"), strict=True):
        assert dict(span.attributes or {}) == {
            "idempotency.outcome": outcome,
            "idempotency.view": ROUTE,
            "idempotency.record.id": str(record.id),
        }


def test_no_metric_and_no_span_has_a_key() -> None:
    with trace.get_tracer("tests").start_as_current_span("request"):
        post("create")
    told = generate_latest().decode() + str(READER.get_metrics_data())
    told += "".join(str(span.to_json()) for span in SPANS.get_finished_spans())
    assert ROUTE in told
    assert SECRET not in told


def test_what_a_duplicate_waited_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner ends during the second pause."""
    looks = []

    class Owned:
        def prepare(self, operation: Operation) -> Snapshot:
            looks.append(1)
            if len(looks) < 3:
                raise InProgress
            return Snapshot(200, (), b"")

    monkeypatch.setattr("django_idempotency.engine.claims_for", lambda using: Owned())
    monkeypatch.setattr("django_idempotency.patience.time.sleep", lambda seconds: None)
    operation = Operation("user:1 waited/", "k", "1:f", timedelta(hours=1), "POST")
    execute(operation, Mock(), using="default", wait=10)
    labels = {"outcome": "replayed", "view": "waited/"}
    assert REGISTRY.get_sample_value("django_idempotency_wait_seconds_sum", labels) == pytest.approx(0.05)
    (point,) = [point for each, point in measured("idempotency.wait.duration").items() if "waited/" in each]
    assert (point.count, point.sum) == (1, pytest.approx(0.05))


def test_duplicate_that_does_not_wait_is_in_no_histogram() -> None:
    labels = {"outcome": "replayed", "view": ROUTE}
    post("create")
    post("create")
    assert REGISTRY.get_sample_value("django_idempotency_wait_seconds_count", labels) is None


def test_purged_records_are_counted() -> None:
    def value() -> float:
        return (
            REGISTRY.get_sample_value("django_idempotency_purged_records_total", {"database": "default"}) or 0
        )

    before = value()
    IdempotencyRecordFactory.create_batch(3, expired=True)
    with transaction.atomic():
        call_command("purge_idempotency_records", verbosity=0)
        assert value() == before
    assert value() == before + 3
    assert measured("idempotency.purged")[("default",)] >= 3
