"""Tasks that purge: Celery's and Django's."""

from __future__ import annotations

import django
import pytest
from celery import Celery
from celery.signals import task_postrun

from django_idempotency import counting
from django_idempotency.contrib import celery as contrib
from django_idempotency.core.operations import Operation, Snapshot
from django_idempotency.models import IdempotencyRecord
from django_idempotency.signals import replayed
from tests.factories import IdempotencyRecordFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def app() -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.task_always_eager = True
    app.finalize()
    return app


def test_celery_finds_the_task_by_its_name_and_purges(app: Celery) -> None:
    IdempotencyRecordFactory.create_batch(3, expired=True)
    live = IdempotencyRecordFactory()
    task = app.tasks["django_idempotency.purge_idempotency_records"]
    assert task.delay(batch_size=2).get() == 3
    assert list(IdempotencyRecord.objects.all()) == [live]


def test_task_counts_what_it_deleted_by_itself() -> None:
    IdempotencyRecordFactory.create_batch(2, expired=True)
    assert contrib.purge_idempotency_records(using="default", pause=0.01) == 2


def test_what_a_worker_counted_is_written_after_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    record = IdempotencyRecordFactory(completed=True)
    operation = Operation(record.scope, record.key, record.fingerprint, record.expires_at - record.created_at)
    replayed.send(IdempotencyRecord, operation=operation, snapshot=Snapshot(200, (), b""), using="default")
    monkeypatch.setattr(counting.time, "monotonic", lambda: float("inf"))
    task_postrun.send(None)
    record.refresh_from_db()
    assert record.replays == 1


@pytest.mark.processes  # of the rows, only the newest has django.tasks
def test_task_of_django_purges() -> None:
    assert django.VERSION >= (6, 0)
    from django_idempotency.contrib.tasks import purge_idempotency_records

    IdempotencyRecordFactory.create_batch(2, expired=True)
    assert purge_idempotency_records.enqueue(max_seconds=5).return_value == 2
