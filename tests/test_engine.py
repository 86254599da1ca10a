"""Invariants of one execution, without HTTP: what is committed, what is rolled back, what runs again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, connection, transaction

from django_idempotency import signals
from django_idempotency.claims.base import ClaimLost, Claims
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.engine import execute
from django_idempotency.exceptions import FingerprintMismatch, InProgress, StoreUnavailable
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.conftest import Parallel
from tests.views import effect, effects

pytestmark = pytest.mark.django_db(transaction=True)


def operation(key: str = "k", fingerprint: str = "1:a") -> Operation:
    return Operation("tests", key, fingerprint, timedelta(hours=1))


class Task:
    """Work whose effect is one Product, and whose ``act`` is the test's."""

    def __init__(
        self, act: Callable[[Claim], Any] = lambda claim: None, *, store: bool = True, status: int = 200
    ) -> None:
        self.act, self.store, self.status = act, store, status
        self.claims: list[Claim] = []

    def run(self, claim: Claim) -> Outcome[str]:
        self.claims.append(claim)
        number = effect()
        self.act(claim)
        return self.outcome(f"effect {number}")

    def refuse(self, claim: Claim, error: Exception) -> Outcome[str]:
        if isinstance(error, KeyError):
            return self.outcome(f"refused {error}")
        raise error

    def outcome(self, text: str) -> Outcome[str]:
        return Outcome(text, Snapshot(self.status, (), text.encode()) if self.store else None)


def run(task: Task, **options: Any) -> Any:
    return execute(operation(**options), task, using="default")


def failing(error: Exception, times: int = 1) -> Callable[[Claim], None]:
    """Return an act that raises ``error`` the first ``times`` times."""
    left = [error] * times

    def act(claim: Claim) -> None:
        if left:
            raise left.pop()

    return act


def driver_error(kind: type[DatabaseError], code: str | int | None) -> Exception:
    """Return a Django database error as this run's driver reports ``code``."""
    if isinstance(code, int):
        return kind(code, "from the server")
    error = kind("from the server")
    cause = type("DriverError", (Exception,), {"sqlstate": code, "__module__": "psycopg.errors"})
    error.__cause__ = cause()
    return error


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def test_first_run_is_committed_with_its_record() -> None:
    outcome = run(Task())
    assert outcome.answer == outcome.snapshot.body.decode()
    assert (effects(), record().state, bytes(record().response_body or b"")) == (
        1,
        "completed",
        outcome.snapshot.body,
    )


def test_retry_gets_the_first_answer_and_does_not_run() -> None:
    first, again = run(Task()), Task()
    assert run(again) == first.snapshot
    assert (effects(), again.claims) == (1, [])


def test_other_fingerprint_is_refused_and_does_not_run() -> None:
    run(Task())
    other = Task()
    with pytest.raises(FingerprintMismatch):
        run(other, fingerprint="1:b")
    assert (effects(), other.claims) == (1, [])


def test_answer_that_is_not_stored_leaves_no_effect_and_runs_again() -> None:
    assert run(Task(store=False)).snapshot is None
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)
    assert isinstance(run(Task()), Outcome)
    assert effects() == 1


def test_exception_leaves_no_effect_and_runs_again() -> None:
    with pytest.raises(RuntimeError, match="accident"):
        run(Task(failing(RuntimeError("accident"))))
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)
    run(Task())
    assert effects() == 1


def test_raised_refusal_is_stored_without_the_effects() -> None:
    outcome = run(Task(failing(KeyError("no"))))
    assert outcome.answer == "refused 'no'"
    assert effects() == 0
    assert run(Task()) == outcome.snapshot
    assert effects() == 0


def test_refusal_that_is_not_stored_runs_again() -> None:
    assert run(Task(failing(KeyError("no")), store=False)).answer == "refused 'no'"
    assert isinstance(run(Task()), Outcome)


def test_refusal_of_a_view_that_marked_its_writes_for_roll_back_is_stored_without_them() -> None:
    outcome = run(Task(lambda claim: transaction.set_rollback(True), status=402))
    assert effects() == 0
    assert run(Task()) == outcome.snapshot


def test_success_of_a_view_that_marked_its_writes_for_roll_back_is_not_stored() -> None:
    """A dry run: its answer is given, and a retry runs again."""
    assert run(Task(lambda claim: transaction.set_rollback(True))).answer.startswith("effect")
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)
    assert isinstance(run(Task()), Outcome)


def test_success_after_a_swallowed_database_error_is_an_error() -> None:
    def act(claim: Claim) -> None:
        with suppress(IntegrityError):
            Product.objects.create(pk=Product.objects.get().pk, name="twin", price=1, stock=1)

    with pytest.raises(transaction.TransactionManagementError, match="let the error through") as caught:
        run(Task(act))
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exception_rolls_back_and_frees_the_key(error: type[BaseException]) -> None:
    def act(claim: Claim) -> None:
        raise error

    with pytest.raises(error):
        run(Task(act))
    assert effects() == 0
    run(Task())
    assert effects() == 1


REPEATABLE = [(OperationalError, "40001"), (OperationalError, "40P01"), (OperationalError, 1213)]


@pytest.mark.parametrize(("kind", "code"), REPEATABLE)
def test_undone_transaction_runs_again_and_its_effect_counts_once(kind: Any, code: Any) -> None:
    task = Task(failing(driver_error(kind, code), times=2))
    assert isinstance(run(task), Outcome)
    assert (effects(), len(task.claims)) == (1, 3)


def test_transaction_that_is_always_undone_ends_in_503_and_keeps_nothing() -> None:
    task = Task(failing(driver_error(OperationalError, "40001"), times=99))
    with pytest.raises(StoreUnavailable, match="nothing was kept") as caught:
        run(task)
    assert not caught.value.outcome_unknown
    assert (effects(), len(task.claims)) == (0, 3)


def test_undone_transaction_inside_an_outer_block_is_its_owners_to_repeat() -> None:
    task = Task(failing(driver_error(OperationalError, "40001"), times=99))
    with transaction.atomic(), pytest.raises(OperationalError):
        run(task)
    assert len(task.claims) == 1


LOST = [
    (OperationalError, "57P01"),
    (OperationalError, None),
    (InterfaceError, None),
    (OperationalError, 2006),
]


@pytest.mark.parametrize(("kind", "code"), LOST)
def test_connection_lost_under_the_view_is_an_unknown_outcome(kind: Any, code: Any) -> None:
    with pytest.raises(StoreUnavailable, match="outcome is unknown") as caught:
        run(Task(failing(driver_error(kind, code))))
    assert caught.value.outcome_unknown
    assert effects() == 0
    run(Task())
    assert effects() == 1


def test_database_error_of_the_view_is_the_views() -> None:
    with pytest.raises(IntegrityError):
        run(
            Task(lambda claim: Product.objects.create(pk=Product.objects.get().pk, name="", price=1, stock=1))
        )  # type: ignore[arg-type,return-value]
    assert effects() == 0


@contextmanager
def failing_statement(beginning: str, error: Exception) -> Iterator[None]:
    """Make the first statement that begins so fail, as the database would."""
    left = [error]

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if left and beginning in sql:
            raise left.pop()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield
    assert not left, "no statement began so"


@pytest.mark.parametrize(
    "error",
    [OperationalError("no such table"), InterfaceError("connection already closed"), DatabaseError("broken")],
)
def test_store_that_fails_before_the_view_is_unavailable_and_nothing_runs(error: Exception) -> None:
    task = Task()
    with (
        failing_statement("SELECT", error),
        pytest.raises(StoreUnavailable, match="nothing was executed") as caught,
    ):
        run(task)
    assert not caught.value.outcome_unknown
    assert task.claims == []
    assert caught.value.__cause__ is error


def test_missing_table_is_unavailable() -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(IdempotencyRecord, IdempotencyRecord._meta.db_table, "elsewhere")
    task = Task()
    try:
        with pytest.raises(StoreUnavailable, match="nothing was executed"):
            run(task)
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(IdempotencyRecord, "elsewhere", IdempotencyRecord._meta.db_table)
    assert task.claims == []


def test_lost_claim_rolls_back_and_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a swallowed deadlock on MariaDB does: the record is not as this claim left it."""
    kind, lost = type(execution_claims()), [ClaimLost()]
    original = kind.complete

    def complete(self: Claims, claim: Claim, snapshot: Snapshot) -> None:
        if lost:
            raise lost.pop()
        original(self, claim, snapshot)

    monkeypatch.setattr(kind, "complete", complete)
    task = Task()
    assert isinstance(run(task), Outcome)
    assert (effects(), len(task.claims)) == (1, 2)


@pytest.mark.vendors("mysql")
def test_row_that_changed_since_the_snapshot_runs_again(parallel: Parallel) -> None:
    """MariaDB tells of it by an error of its own (1020), from 11.6 on without being asked to."""
    row = Product.objects.create(name="row", price=1, stock=1)
    runs: list[int] = []

    def act(claim: Claim) -> None:
        runs.append(claim.attempt)
        row.refresh_from_db()
        if len(runs) == 1:
            parallel.call(lambda: Product.objects.update(stock=99))
        row.stock += 1
        row.save()

    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    try:
        run(Task(act))
    finally:
        connection.close()
    assert (len(runs), Product.objects.get(pk=row.pk).stock) == (2, 100)


@pytest.mark.vendors("postgresql")
def test_cursor_that_is_used_after_its_end_is_no_lost_connection() -> None:
    def act(claim: Claim) -> None:
        Product.objects.create(name="gone", price=1, stock=1)
        with connection.cursor() as cursor:
            pass
        cursor.execute("SELECT 1")

    with pytest.raises(InterfaceError, match="cursor"):
        run(Task(act))
    assert Product.objects.count() == 0


@pytest.mark.vendors("mysql")
def test_swallowed_deadlock_does_not_commit_half_of_the_view(parallel: Parallel) -> None:
    """MariaDB undoes the whole transaction behind Django's back; the fence notices, and the view runs again."""
    for name in ("a", "b"):
        Product.objects.create(name=name, price=1, stock=1)
    first, second = Product.objects.filter(name="a"), Product.objects.filter(name="b")
    barrier = threading.Barrier(2)
    runs: list[int] = []

    def act(claim: Claim) -> None:
        runs.append(claim.attempt)
        if len(runs) > 1:
            return
        first.update(stock=2)
        barrier.wait(10)
        try:
            second.update(stock=2)
        except OperationalError:
            runs.append(-1)

    def rival() -> None:
        with transaction.atomic():
            for number in range(500):  # the heavier transaction survives a deadlock
                Product.objects.create(name=f"rival {number}", price=1, stock=1)
            second.update(stock=3)
            barrier.wait(10)
            first.update(stock=3)

    other = parallel.start(rival)
    run(Task(act))
    other()
    assert -1 in runs, "no deadlock happened"
    assert Product.objects.filter(name="effect").count() == 1


def test_commit_that_fails_is_the_views_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IntegrityError), failing_commit(monkeypatch, IntegrityError("deferred constraint")):
        run(Task())
    assert effects() == 0


def test_commit_that_loses_the_connection_is_an_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = driver_error(OperationalError, "08006")
    with failing_commit(monkeypatch, lost), pytest.raises(StoreUnavailable) as caught:
        run(Task())
    assert caught.value.outcome_unknown


def test_commit_that_is_undone_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task()
    with failing_commit(monkeypatch, driver_error(OperationalError, "40001")):
        assert isinstance(run(task), Outcome)
    assert (effects(), len(task.claims)) == (1, 2)


@contextmanager
def failing_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Iterator[None]:
    """Make the COMMIT of the first transaction that has had an effect fail."""
    original, left = connection._commit, [error]

    def commit() -> None:
        if left and Product.objects.exists():
            raise left.pop()
        original()

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", commit)
        yield
    assert not left


def test_hook_that_raises_after_commit_is_raised_and_the_outcome_stands() -> None:
    def accident() -> None:
        raise RuntimeError("hook")

    with pytest.raises(RuntimeError, match="hook"):
        run(Task(lambda claim: transaction.on_commit(accident)))
    assert effects() == 1
    assert isinstance(run(Task()), Snapshot)


def test_refusal_of_another_operation_in_a_hook_is_none_of_this_one() -> None:
    def accident() -> None:
        raise InProgress

    with pytest.raises(RuntimeError, match=r"committed.*InProgress") as caught:
        run(Task(lambda claim: transaction.on_commit(accident)))
    assert isinstance(caught.value.__cause__, InProgress)
    assert isinstance(run(Task()), Snapshot)


def test_hooks_of_an_outer_block_keep_their_places() -> None:
    """Django's captureOnCommitCallbacks() tells the new hooks by where they stand in the list."""
    order: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: order.append("before"))
        before = list(connection.run_on_commit)
        run(Task(lambda claim: transaction.on_commit(lambda: order.append("in"))))
        assert connection.run_on_commit[: len(before)] == before
        transaction.on_commit(lambda: order.append("after"))
    assert order == ["before", "in", "after"]


def test_hook_that_raises_a_database_error_after_commit_does_not_run_the_view_again() -> None:
    def accident() -> None:
        raise driver_error(OperationalError, "40001")

    task = Task(lambda claim: transaction.on_commit(accident))
    with pytest.raises(OperationalError):
        run(task)
    assert (effects(), len(task.claims)) == (1, 1)


def test_hooks_of_a_run_that_was_undone_do_not_run() -> None:
    hooks: list[int] = []
    fail = failing(driver_error(OperationalError, "40001"))

    def act(claim: Claim) -> None:
        transaction.on_commit(lambda: hooks.append(claim.attempt))
        fail(claim)

    task = Task(act)
    run(task)
    assert hooks == [task.claims[-1].attempt]


def test_error_whose_key_is_claimed_before_its_answer_is_stored_gives_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    class Busy(type(execution_claims())):  # type: ignore[misc]
        def claim(self, wanted: Operation) -> Claim | Snapshot:
            calls.append(1)
            if len(calls) == 2:
                raise InProgress
            return super().claim(wanted)  # type: ignore[no-any-return]

    monkeypatch.setattr("django_idempotency.engine.claims_for", Busy)
    with pytest.raises(InProgress):
        run(Task(failing(RuntimeError("hidden"))))
    assert "claimed again" in caplog.text
    assert effects() == 0


def execution_claims() -> Claims:
    from django_idempotency.claims.registry import claims_for

    return claims_for("default")


def test_nested_operations_keep_one_record_each() -> None:
    def act(claim: Claim) -> None:
        execute(operation("inner"), Task(), using="default")

    run(Task(act))
    assert effects() == 2
    assert sorted(IdempotencyRecord.objects.completed().values_list("key", flat=True)) == ["inner", "k"]


def test_nested_operation_goes_with_the_outer_one() -> None:
    def act(claim: Claim) -> None:
        execute(operation("inner"), Task(), using="default")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(Task(act))
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


def test_execution_inside_an_outer_block_belongs_to_it() -> None:
    with transaction.atomic():
        run(Task())
        assert isinstance(run(Task()), Snapshot)
        with pytest.raises(RuntimeError):
            run(Task(failing(RuntimeError())), key="other")
        assert effects() == 1
        transaction.set_rollback(True)
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    names = ("claimed", "completed", "released", "replayed", "rejected")
    events: list[tuple[str, dict[str, Any]]] = []
    receivers = {name: lambda _name=name, **kwargs: events.append((_name, kwargs)) for name in names}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver, weak=False)
    yield events
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


def test_signals_tell_what_happened(heard: list[tuple[str, dict[str, Any]]]) -> None:
    run(Task())
    run(Task())
    with pytest.raises(FingerprintMismatch):
        run(Task(), fingerprint="1:b")
    with pytest.raises(RuntimeError):
        run(Task(failing(RuntimeError())), key="other")
    assert [name for name, _ in heard] == [
        "claimed",
        "completed",
        "replayed",
        "rejected",
        "claimed",
        "released",
    ]
    assert all(kwargs["using"] == "default" and kwargs["operation"].scope == "tests" for _, kwargs in heard)
    assert heard[1][1]["attempt"] == heard[0][1]["attempt"] == 1
    assert isinstance(heard[3][1]["error"], FingerprintMismatch)


def test_signals_show_no_key_and_no_answer(heard: list[tuple[str, dict[str, Any]]]) -> None:
    secret = "key-that-nobody-may-log"
    run(Task(), key=secret)
    run(Task(), key=secret)
    shown = json.dumps([repr(kwargs) for _, kwargs in heard])
    assert secret not in shown
    assert "effect " not in shown


def test_receiver_that_raises_changes_nothing() -> None:
    def receiver(**kwargs: Any) -> None:
        raise RuntimeError("receiver")

    signals.claimed.connect(receiver)
    try:
        run(Task())
    finally:
        signals.claimed.disconnect(receiver)
    assert effects() == 1


def test_thirty_two_threads_with_one_key_have_one_effect(parallel: Parallel) -> None:
    for number in range(10):
        results = parallel.at_once(32, lambda _, key=f"k{number}": attempt(key))
        assert len({result for result in results if result != "in progress"}) == 1
    assert effects() == 10


def attempt(key: str) -> str:
    try:
        result = run(Task(), key=key)
    except InProgress:
        return "in progress"
    snapshot = result if isinstance(result, Snapshot) else result.snapshot
    return snapshot.body.decode()  # type: ignore[no-any-return]
