"""A duplicate that waits: it gets the first answer, runs when the owner is gone, and holds nothing meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.test import RequestFactory, override_settings

from django_idempotency import patience
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.decorators import idempotent
from django_idempotency.engine import execute
from django_idempotency.exceptions import FingerprintMismatch, InProgress
from django_idempotency.guards import FORM_WAIT_SECONDS, Policy
from django_idempotency.options import Options
from django_idempotency.signals import rejected
from tests.conftest import Parallel
from tests.views import effect, effects

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.vendors("postgresql", "mysql"),
    pytest.mark.alone,
]

BACKEND = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
OPEN = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND state LIKE 'idle in transaction%%'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = {}",
}


def ask(query: str, *numbers: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query.format(*numbers))
        (value,) = cursor.fetchone() or (0,)
    return int(value)


class Owner:
    """Holds the claim until it is told to go on; then it has its effect, or dies."""

    def __init__(self, parallel: Parallel) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        self.result = parallel.start(run, self)
        assert self.started.wait(30)

    def run(self, claim: Claim) -> Outcome[str]:
        self.backend = ask(BACKEND[connection.vendor])
        self.started.set()
        assert self.go_on.wait(30)
        self.ended = time.monotonic()
        return Outcome("first", Snapshot(200, (), str(effect()).encode()))

    def refuse(self, claim: Claim, error: Exception) -> Outcome[str]:
        raise error


class Waiter:
    """Tells on which connection it waits, and what it came to, and when."""

    def __init__(self, parallel: Parallel, seconds: float, fingerprint: str = "1:a") -> None:
        self.connected = threading.Event()
        self.result = parallel.start(self.wait, seconds, fingerprint)
        assert self.connected.wait(30)

    def wait(self, seconds: float, fingerprint: str) -> Any:
        self.backend = ask(BACKEND[connection.vendor])
        self.connected.set()
        try:
            return run(self, seconds, fingerprint)
        finally:
            self.ended = time.monotonic()

    def run(self, claim: Claim) -> Outcome[str]:
        self.ran = time.monotonic()
        return Outcome("second", Snapshot(200, (), str(effect()).encode()))

    refuse = Owner.refuse


def run(work: Any, wait: float = 0, fingerprint: str = "1:a") -> Any:
    return execute(Operation("tests", "k", fingerprint, timedelta(hours=1)), work, using="default", wait=wait)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what waits until the next poll has begun."""
    seen = threading.Semaphore(0)
    lasts = patience.Patience.lasts

    def counted(self: patience.Patience) -> bool:
        seen.release()
        return lasts(self)

    monkeypatch.setattr(patience.Patience, "lasts", counted)
    return lambda: [seen.acquire(timeout=30) for _ in range(2)] and None


def test_waiter_gets_the_first_answer_within_a_quarter_of_a_second(
    parallel: Parallel, polls: Callable[[], None]
) -> None:
    owner = Owner(parallel)
    waiter = Waiter(parallel, 30)
    polls()
    owner.go_on.set()
    assert owner.result().answer == "first"
    assert isinstance(waiter.result(), Snapshot)
    assert effects() == 1
    assert waiter.ended - owner.ended < 5  # the pause itself is held to 250 ms below


def test_pauses_never_exceed_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(patience.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(patience.time, "sleep", sleep)
    waiting = patience.Patience(3)
    while waiting.lasts():
        pass
    assert sum(slept) == pytest.approx(3)
    assert max(slept) <= 0.25
    assert len(slept) < 30


def test_waiter_runs_when_the_owner_dies(parallel: Parallel, polls: Callable[[], None]) -> None:
    owner = Owner(parallel)
    waiter = Waiter(parallel, 30)
    polls()
    killed = time.monotonic()
    ask(KILL[connection.vendor], owner.backend) if connection.vendor == "postgresql" else kill(owner.backend)
    assert waiter.result().answer == "second"
    assert waiter.ran - killed < 5
    owner.go_on.set()
    with pytest.raises(Exception):  # noqa: B017 (whatever the driver makes of a connection that is gone)
        owner.result()
    assert effects() == 1


def kill(backend: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(KILL["mysql"].format(backend))


def test_waiter_holds_no_transaction_between_polls(parallel: Parallel, polls: Callable[[], None]) -> None:
    owner = Owner(parallel)
    waiter = Waiter(parallel, 30)
    polls()
    found = [ask(OPEN[connection.vendor], waiter.backend) for _ in range(40) if time.sleep(0.005) is None]
    # A poll itself is a transaction of some milliseconds; a waiter that kept one open would be found each time.
    assert found.count(0) > 30
    owner.go_on.set()
    waiter.result()


def test_waiter_is_refused_when_its_time_is_over(parallel: Parallel) -> None:
    refused: list[Any] = []

    def count(error: Exception, **kwargs: Any) -> None:
        refused.append(error)

    owner = Owner(parallel)
    rejected.connect(count)
    try:
        started = time.monotonic()
        with pytest.raises(InProgress):
            run(Waiter.__new__(Waiter), 0.4)
        assert 0.4 <= time.monotonic() - started < 5
    finally:
        rejected.disconnect(count)
    assert len(refused) == 1
    owner.go_on.set()
    owner.result()


def test_waiter_with_another_fingerprint_is_told_at_the_end(
    parallel: Parallel, polls: Callable[[], None]
) -> None:
    owner = Owner(parallel)
    waiter = Waiter(parallel, 30, fingerprint="1:b")
    polls()
    owner.go_on.set()
    with pytest.raises(FingerprintMismatch):
        waiter.result()


def test_inside_an_outer_block_nobody_waits(parallel: Parallel) -> None:
    owner = Owner(parallel)
    started = time.monotonic()
    with transaction.atomic(), pytest.raises(InProgress):
        run(Waiter.__new__(Waiter), 30)
    assert time.monotonic() - started < 10
    owner.go_on.set()
    owner.result()


# How long each door waits


def form(**fields: str) -> HttpRequest:
    return RequestFactory().post("/x/", fields)


@pytest.mark.parametrize(
    ("setting", "own", "by_form", "seconds"),
    [
        (0, None, False, 0), (3, None, False, 3), (3, 0, False, 0), (0, 7, False, 7),
        (0, None, True, FORM_WAIT_SECONDS), (30, None, True, 30), (0, 2, True, 2), (30, 0, True, 0),
    ],
)  # fmt: skip
def test_form_waits_unless_its_view_says_otherwise(
    setting: float, own: float | None, by_form: bool, seconds: float
) -> None:
    request = form(idempotency_key="k") if by_form else form(other="k")
    with override_settings(IDEMPOTENCY={"WAIT_SECONDS": setting}):
        assert Policy(Options(wait_seconds=own)).wait_seconds(request) == seconds


def test_door_waits_as_its_option_says(parallel: Parallel, polls: Callable[[], None]) -> None:
    go_on, started = threading.Event(), threading.Event()

    @idempotent(wait_seconds=30)
    def view(request: HttpRequest) -> JsonResponse:
        started.set()
        assert go_on.wait(30)
        return JsonResponse({"id": effect()}, status=201)

    def send() -> Any:
        return view(RequestFactory().post("/x/", headers={"Idempotency-Key": "k"}))

    first = parallel.start(send)
    assert started.wait(30)
    second = parallel.start(send)
    polls()
    go_on.set()
    assert (second().content, second().headers["Idempotent-Replayed"]) == (first().content, "true")
    assert effects() == 1
