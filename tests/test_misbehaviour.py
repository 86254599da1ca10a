"""Code that does in a view what it should not: the record and its effects are there together, or neither is.

``docs/proof.md`` has the same table, with the limits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

from django_idempotency.core.operations import Claim, Outcome, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from example_project.stage import gunicorn
from tests.conftest import Parallel
from tests.doors.live import LIVE_DOORS, Customer, Pause, environment
from tests.test_engine import Task, run
from tests.views import effects

pytestmark = pytest.mark.django_db(transaction=True)

Misdeed = Callable[[], Any]


def sql(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def twin() -> None:
    """Break a constraint."""
    Product.objects.create(pk=Product.objects.latest("pk").pk, name="twin", price=1, stock=1)


def swallow() -> None:
    with suppress(IntegrityError):
        twin()


def swallow_and_hide() -> None:
    swallow()
    transaction.set_rollback(False)


def swallow_in_a_savepoint() -> None:
    with suppress(IntegrityError), transaction.atomic():
        twin()


def durable() -> None:
    with transaction.atomic(durable=True):
        pass


def close_and_write() -> None:
    connection.close()
    Product.objects.create(name="effect", price=1, stock=1)


def close_and_swallow() -> None:
    with suppress(DatabaseError):
        close_and_write()


def on_commit(error: BaseException) -> Misdeed:
    def accident() -> None:
        raise error

    return lambda: transaction.on_commit(accident)


def raising(error: BaseException) -> Misdeed:
    def accident() -> None:
        raise error

    return accident


def isolation() -> None:
    sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")


#: What undoes everything: the caller gets an error, and the retry runs.
UNDONE: dict[str, Misdeed] = {
    "swallows a database error": swallow,
    "commit()": transaction.commit,
    "rollback()": transaction.rollback,
    "set_autocommit()": lambda: transaction.set_autocommit(True),
    "SQL COMMIT": lambda: sql("COMMIT"),
    "SQL commit and chain": lambda: sql(" commit and chain"),
    "SQL ROLLBACK": lambda: sql("ROLLBACK"),
    "SQL ROLLBACK WORK": lambda: sql("\nrollback work"),
    "SQL END": lambda: sql("END"),
    "SQL COMMIT behind comments": lambda: sql("/* route='pay' * */ -- a tag\n COMMIT"),
    "SQL COMMIT behind a statement": lambda: sql("SELECT 1 /* ; */ ; COMMIT"),
    "SQL BEGIN": lambda: sql("BEGIN"),
    "SQL START TRANSACTION": lambda: sql("START TRANSACTION"),
    "atomic(durable=True)": durable,
    "closes the connection": connection.close,
    "closes the connection and goes on": close_and_write,
    "closes the connection and swallows what follows": close_and_swallow,
    "SystemExit": raising(SystemExit(1)),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "GeneratorExit": raising(GeneratorExit()),
}
#: What is committed with its record, though the caller gets an error: the retry is a replay.
COMMITTED: dict[str, Misdeed] = {
    "on_commit() raises": on_commit(RuntimeError()),
    "on_commit() raises a database error": on_commit(IntegrityError()),
    "on_commit() raises a refusal of another operation": on_commit(InProgress()),
    "on_commit() raises SystemExit": on_commit(SystemExit(1)),
}
#: What does no harm.
HARMLESS: dict[str, Misdeed] = {
    "swallows a database error inside atomic()": swallow_in_a_savepoint,
    "set_rollback(False)": lambda: transaction.set_rollback(False),
    "SQL ROLLBACK TO": lambda: sql("SAVEPOINT own", "ROLLBACK TO SAVEPOINT own", "RELEASE SAVEPOINT own"),
    "sends the word in a string": lambda: sql("SELECT 'a; COMMIT' /* ; COMMIT */; "),
    "opens a cursor and leaves it": lambda: connection.cursor().execute("SELECT 1"),
}


def misbehaving(misdeed: Misdeed) -> Task:
    def act(claim: Claim) -> None:
        misdeed()

    return Task(act)


def kept() -> tuple[int, int]:
    """Return how many effects there are, and how many finished records."""
    connection.close_if_unusable_or_obsolete()
    return effects(), IdempotencyRecord.objects.completed().count()


@pytest.mark.parametrize("name", UNDONE)
def test_misdeed_that_is_an_error_leaves_nothing_and_the_retry_runs(name: str) -> None:
    with pytest.raises(BaseException) as caught:
        run(misbehaving(UNDONE[name]))
    assert str(caught.value) or not isinstance(caught.value, DatabaseError), "no word of what is wrong"
    assert kept() == (0, 0)
    assert isinstance(run(Task()), Outcome)
    assert kept() == (1, 1)


@pytest.mark.parametrize("name", COMMITTED)
def test_misdeed_after_the_commit_is_raised_and_the_retry_is_a_replay(name: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        run(misbehaving(COMMITTED[name]))
    assert kept() == (1, 1)
    assert isinstance(run(Task()), Snapshot)
    assert kept() == (1, 1)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_misdeed_is_committed_with_its_record(name: str) -> None:
    assert isinstance(run(misbehaving(HARMLESS[name])), Outcome)
    assert kept() == (1, 1)
    assert isinstance(run(Task()), Snapshot)


def test_error_that_is_swallowed_and_hidden_leaves_all_or_nothing() -> None:
    """PostgreSQL refuses every further statement; elsewhere only the one that failed is undone."""
    if connection.vendor == "postgresql":
        with pytest.raises(DatabaseError):
            run(misbehaving(swallow_and_hide))
    else:
        run(misbehaving(swallow_and_hide))
    assert kept() in ((0, 0), (1, 1))
    run(Task())
    assert kept() == (1, 1)


def test_set_rollback_is_a_dry_run() -> None:
    assert isinstance(run(misbehaving(lambda: transaction.set_rollback(True))), Outcome)
    assert kept() == (0, 0)


@pytest.mark.vendors("postgresql", "mysql")
def test_isolation_is_not_switched_in_the_middle() -> None:
    with pytest.raises(DatabaseError, match=r"(?i)transaction"):
        run(misbehaving(isolation))
    assert kept() == (0, 0)
    run(Task())
    assert kept() == (1, 1)


COMMIT_TACITLY = [
    "CREATE TABLE own (id int)",
    "TRUNCATE TABLE shop_order",
    "LOCK TABLES shop_order WRITE",
    "ANALYZE TABLE shop_order",
    "OPTIMIZE LOCAL TABLE shop_order",
    "CHECK TABLE shop_order",
    "FLUSH STATUS",
    "SET autocommit = 1",
    "EXECUTE IMMEDIATE 'COMMIT'",
    "SET @@session.autocommit = 1",
]


@pytest.mark.vendors("mysql")
@pytest.mark.parametrize("statement", COMMIT_TACITLY)
def test_statement_that_commits_tacitly_is_refused(statement: str) -> None:
    with pytest.raises(transaction.TransactionManagementError, match="would end the transaction"):
        run(misbehaving(lambda: sql(statement)))
    assert kept() == (0, 0)


def test_temporary_table_is_allowed() -> None:
    kind = "TEMPORARY" if connection.vendor == "mysql" else ""
    run(misbehaving(lambda: sql("CREATE TEMPORARY TABLE own (id int)", f"DROP {kind} TABLE own")))
    assert kept() == (1, 1)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    """Have a second database, with products of its own."""
    connections.settings["other"] = {
        **connection.settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "other.sqlite3"),
        "OPTIONS": {},
    }
    connections["other"].connect()  # tests may not have Django do it
    with connections["other"].schema_editor() as editor:
        editor.create_model(Product)
    yield "other"
    connections["other"].close()
    del connections["other"]
    del connections.settings["other"]


@pytest.mark.once
def test_second_database_is_outside_the_transaction(other: str) -> None:
    """The limit that the documents name: what is written there stays, and a retry writes it again."""

    def write(fail: bool) -> Misdeed:
        def misdeed() -> None:
            Product.objects.using(other).create(name="elsewhere", price=1, stock=1)
            assert not fail

        return misdeed

    with pytest.raises(AssertionError):
        run(misbehaving(write(fail=True)))
    assert kept() == (0, 0)
    run(misbehaving(write(fail=False)))
    assert kept() == (1, 1)
    assert Product.objects.using(other).count() == 2


@pytest.mark.once
@pytest.mark.processes
def test_worker_that_gunicorn_ends_for_its_slowness_leaves_nothing(
    tmp_path: Path, parallel: Parallel
) -> None:
    """The arbiter sends SIGABRT to a worker that is over its time, and that becomes SystemExit in the view."""
    customer, door, pause = Customer(), LIVE_DOORS["mixin"], Pause(tmp_path / "pause")
    with gunicorn(environment(), tmp_path / "gunicorn.log") as port:
        answer = parallel.start(door.send, port, customer, "k", pause.fault)
        os.kill(pause.pid(), signal.SIGABRT)
        assert answer().status in (0, 500)
        assert customer.orders() == IdempotencyRecord.objects.completed().count() == 0
        retry = door.send(port, customer, "k", "")
    assert (retry.status, retry.replayed) == (201, False)
    assert customer.orders() == IdempotencyRecord.objects.completed().count() == 1
