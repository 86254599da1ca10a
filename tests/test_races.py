"""32-way races on one key, with both claims of PostgreSQL at once, and at every isolation level.

``RACE_ROUNDS`` is the number of rounds of the plain race, five times that of the others: 200 is the dose of CI.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_idempotency.claims.retention import PurgeLimits, purge_expired
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot, operation_id
from django_idempotency.engine import execute
from django_idempotency.exceptions import InProgress, StoreUnavailable
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.conftest import Parallel
from tests.proofs import dose, note

CROWD, PLAIN = 32, dose("RACE_ROUNDS", 200)
ROUNDS = max(1, PLAIN // 5)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600 + PLAIN), pytest.mark.alone]


class Watch:
    """Notices two executions of one key that run at the same time (I3), whatever becomes of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside: Counter[str] = Counter()
        self.crowded: list[str] = []
        self.runs: Counter[str] = Counter()

    @contextmanager
    def over(self, key: str) -> Iterator[None]:
        with self.lock:
            self.inside[key] += 1
            self.runs[key] += 1
            if self.inside[key] > 1:
                self.crowded.append(key)
        try:
            yield
        finally:
            with self.lock:
                self.inside[key] -= 1


class Work:
    """Has one effect, a Product with the key's name, and fails as often as ``fails`` says."""

    def __init__(self, watch: Watch, fails: Callable[[], bool]) -> None:
        self.watch, self.fails, self.runs = watch, fails, 0

    def run(self, claim: Claim) -> Outcome[str]:
        self.runs += 1
        with self.watch.over(claim.key):
            number = Product.objects.create(name=claim.key, price=1, stock=1).pk
            if self.fails():
                raise RuntimeError
        return Outcome("", Snapshot(201, (), str(number).encode()))

    def refuse(self, claim: Claim, error: Exception) -> Outcome[str]:
        raise error


def attempt(key: str, watch: Watch, fails: Callable[[], bool] = lambda: False) -> str:
    """Execute once; return the body of the answer, or how it was refused."""
    work = Work(watch, fails)
    try:
        result = execute(Operation("races", key, "1:a", timedelta(hours=1)), work, using="default")
    except (InProgress, StoreUnavailable, RuntimeError) as error:
        return f"-{type(error).__name__}"
    finally:
        assert work.runs <= 3, "RETRIES are 2"
    snapshot = result if isinstance(result, Snapshot) else result.snapshot
    assert snapshot is not None
    return (snapshot.body or b"").decode()


def race(parallel: Parallel, enter: Callable[[int, int], str], rounds: int = ROUNDS) -> list[set[str]]:
    """Let the crowd ``enter(racer, round)`` every round together; return the different answers of each round."""
    barrier = threading.Barrier(CROWD)

    def racer(number: int) -> list[str]:
        answers = []
        for turn in range(rounds):
            barrier.wait(60)
            answers.append(enter(number, turn))
        return answers

    parallel.seconds += rounds  # a thread goes through all of them
    return [set(answers) for answers in zip(*parallel.at_once(CROWD, racer), strict=True)]


def assert_somebody_won(answers: list[set[str]]) -> None:
    """Where no view fails, a crowd never refuses itself until nobody is left."""
    assert [turn for turn, found in enumerate(answers) if all(each.startswith("-") for each in found)] == []


def assert_one_effect_each(watch: Watch, answers: list[set[str]]) -> None:
    """Retry each key once more: every answer that was ever given for it is that one, and it has one effect."""
    assert watch.crowded == []
    for turn, found in enumerate(answers):
        last = attempt(f"k{turn}", watch)
        assert {answer for answer in found if not answer.startswith("-")} <= {last}
    effects = Counter(Product.objects.values_list("name", flat=True))
    assert effects == {f"k{turn}": 1 for turn in range(len(answers))}
    if len(answers) > 1:
        race = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
        ran = {"rounds": len(answers), "crowd": CROWD, "runs": watch.runs.total()}
        note("races", race=race.removeprefix("test_"), **ran, duplicates=0, crowded=0)


class ByThread(dict[str, Any]):
    """Settings in which CLAIM is each thread's own, as it is each process's in a rolling deploy."""

    own = threading.local()

    def __getitem__(self, name: str) -> Any:
        return getattr(self.own, "claim", "auto") if name == "CLAIM" else super().__getitem__(name)


@pytest.fixture
def rolling_deploy(settings: Any) -> Callable[[int], None]:
    """Return what gives the calling thread its claim: every second racer is of the other kind."""
    settings.IDEMPOTENCY = ByThread(CLAIM="")

    def choose(number: int) -> None:
        ByThread.own.claim = ("auto", "row_lock")[number % 2]

    return choose


@pytest.mark.vendors("postgresql")
def test_both_claims_at_once_have_one_effect(
    parallel: Parallel, rolling_deploy: Callable[[int], None]
) -> None:
    watch = Watch()

    def enter(number: int, turn: int) -> str:
        rolling_deploy(number)
        return attempt(f"k{turn}", watch)

    answers = race(parallel, enter)
    assert_somebody_won(answers)
    assert_one_effect_each(watch, answers)


@pytest.mark.vendors("postgresql")
def test_both_claims_at_once_with_failures_expiry_and_purge_have_one_effect(
    parallel: Parallel, rolling_deploy: Callable[[int], None]
) -> None:
    """Views that fail leave rows in progress or none; some keys begin with an expired record that a purge deletes."""
    watch = Watch()
    for turn in range(0, ROUNDS, 3):
        expired(f"k{turn}")

    def enter(number: int, turn: int) -> str:
        rolling_deploy(number)
        chance = random.Random(f"{number} {turn}")
        if number == 0:
            purge_expired("default", PurgeLimits())
        answer = "-InProgress"
        for _ in range(chance.randrange(1, 4)):
            if answer.startswith("-"):
                answer = attempt(f"k{turn}", watch, lambda: chance.random() < 0.6)
        return answer

    assert_one_effect_each(watch, race(parallel, enter))
    assert sum(watch.runs.values()) > ROUNDS, "nothing ever failed"


def expired(key: str) -> None:
    long_ago = timezone.now() - timedelta(days=2)
    times = {"created_at": long_ago, "completed_at": long_ago, "expires_at": long_ago}
    answer = {"state": "completed", "response_status": 201, "response_body": b"old"}
    IdempotencyRecord.objects.create(id=operation_id("races", key), scope="races", key=key, **times, **answer)


@pytest.fixture(params=["REPEATABLE_READ", "SERIALIZABLE"])
def isolation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[str]:
    """Connect at this isolation level, in every thread of the test."""
    from psycopg import IsolationLevel

    level = {"isolation_level": IsolationLevel[request.param]}
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", level)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == (request.param.lower().replace("_", " "),)
    yield request.param
    connection.close()


@pytest.mark.vendors("postgresql")
@pytest.mark.parametrize("claim", ["auto", "row_lock"])
def test_every_isolation_level_has_one_effect(
    parallel: Parallel, settings: Any, isolation: str, claim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.IDEMPOTENCY = {"CLAIM": claim}
    watch = Watch()
    answers = race(parallel, lambda number, turn: attempt(f"k{turn}", watch))
    refused = sum("-StoreUnavailable" in found for found in answers)
    figures = f"{watch.runs.total()} runs in {len(answers)} rounds, 503 in {refused} of them"
    with capsys.disabled():
        print(f"\n{isolation}, {claim}: {figures}")
    assert_somebody_won(answers)
    assert_one_effect_each(watch, answers)


@pytest.mark.vendors("postgresql")
def test_operation_finished_since_the_snapshot_runs_again_and_replays(
    parallel: Parallel, isolation: str
) -> None:
    """The lock is free and the record unseen, so the view runs; the INSERT meets the record (40001)."""
    ours, theirs, answers = Watch(), Watch(), []

    def finish_theirs(execute: Any, sql: str, *args: Any) -> Any:
        if IdempotencyRecord._meta.db_table in sql and not answers:
            answers.append("")
            snapshot()
            answers[0] = parallel.call(attempt, "k0", theirs)
        return execute(sql, *args)

    def snapshot() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with connection.execute_wrapper(finish_theirs):
        assert attempt("k0", ours) == answers[0]
    assert (ours.runs.total(), theirs.runs.total()) == (1, 1)
    assert_one_effect_each(ours, [set(answers)])


def test_crowd_on_one_key_has_one_effect(parallel: Parallel) -> None:
    watch = Watch()
    answers = race(parallel, lambda number, turn: attempt(f"k{turn}", watch), PLAIN)
    assert_somebody_won(answers)
    assert_one_effect_each(watch, answers)
    assert watch.runs.total() == len(answers)
