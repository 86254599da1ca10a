"""Log lines: what happened to which record, and nothing of what was sent or answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, IntegrityError, OperationalError, connections

from django_idempotency import logs
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.engine import execute
from django_idempotency.exceptions import (
    FingerprintMismatch,
    IdempotencyError,
    InProgress,
    StoreUnavailable,
)
from django_idempotency.models import IdempotencyRecord
from django_idempotency.signals import rejected, replayed

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "s3cr3t"
OPERATION = Operation(
    scope=f"user:1 {SECRET}/",
    key=f"key-{SECRET}",
    fingerprint=f"1:{SECRET}",
    retention=timedelta(hours=1),
    path=f"/{SECRET}/",
    request_payload=SECRET.encode(),
)
ANSWER = Snapshot(201, (("Location", SECRET),), SECRET.encode())


class Work:
    """A view that answers at once."""

    def __init__(self, snapshot: Snapshot | None = ANSWER) -> None:
        self.snapshot = snapshot

    def run(self, claim: Claim) -> Outcome[None]:
        return Outcome(None, self.snapshot)

    def refuse(self, claim: Claim, error: Exception) -> Outcome[None]:
        raise error


def run(snapshot: Snapshot | None = ANSWER) -> None:
    execute(OPERATION, Work(snapshot), using="default")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    """Return level and text of this package's lines, after a look for the secret in all that they carry."""
    caplog.set_level(logging.DEBUG, logger="django_idempotency")

    def read() -> list[tuple[int, str]]:
        records = [record for record in caplog.records if record.name == "django_idempotency"]
        for record in records:
            assert SECRET not in logging.Formatter().format(record)
            assert SECRET not in repr(vars(record))
        return [(record.levelno, record.getMessage()) for record in records]

    return read


Lines = Callable[[], list[tuple[int, str]]]


def test_replay_is_logged_at_debug(lines: Lines) -> None:
    run()
    assert lines() == []
    run()
    assert lines() == [(logging.DEBUG, f"Replayed record {OPERATION.id} from 'default'")]


def test_answer_that_is_not_stored_is_logged_at_debug(lines: Lines) -> None:
    run(snapshot=None)
    expected = f"Released record {OPERATION.id} on 'default': rolled back and not stored"
    assert lines() == [(logging.DEBUG, expected)]


def test_store_that_is_down_is_an_error_with_its_cause(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    monkeypatch.delitem(connections["default"].__dict__, "_idempotency_read", raising=False)
    with pytest.raises(StoreUnavailable):
        run()
    ((level, text),) = lines()
    assert level == logging.ERROR
    assert f"Refused (store-unavailable) record {OPERATION.id} on 'default'" in text
    assert "Error: " in text
    assert "not_migrated" in text
    assert text.endswith("): run manage.py migrate")


def reject(error: IdempotencyError, cause: BaseException | None = None) -> None:
    error.__cause__ = cause
    rejected.send_robust(IdempotencyRecord, operation=OPERATION, error=error, using="default")


@pytest.mark.parametrize("error", [InProgress(), FingerprintMismatch()])
def test_refusal_is_logged_at_info_without_a_cause(lines: Lines, error: IdempotencyError) -> None:
    reject(error, OperationalError(SECRET))
    ((level, text),) = lines()
    assert level == logging.INFO
    assert error.code in text


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (OperationalError(f"server closed\nDETAIL: {SECRET}"), "(OperationalError: server closed)"),
        (DataError(1366, f"Incorrect string value: '{SECRET}'"), "(DataError)"),
        (IntegrityError(f"Duplicate entry '{SECRET}'"), "(IntegrityError)"),
        (OperationalError(), "(OperationalError)"),
        (None, "retry with the same key."),
    ],
)
def test_cause_is_told_without_the_values_that_a_database_quotes(
    lines: Lines, cause: BaseException | None, told: str
) -> None:
    reject(StoreUnavailable(), cause)
    ((_, text),) = lines()
    assert text.endswith(told)


def test_connecting_twice_logs_once(lines: Lines) -> None:
    logs.connect()
    replayed.send_robust(IdempotencyRecord, operation=OPERATION, snapshot=ANSWER, using="default")
    assert len(lines()) == 1


def test_receiver_ignores_arguments_that_signals_may_get_later(lines: Lines) -> None:
    later: dict[str, Any] = {"since": "a later version"}
    replayed.send(IdempotencyRecord, operation=OPERATION, snapshot=ANSWER, using="default", **later)
    assert len(lines()) == 1
