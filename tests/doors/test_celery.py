"""A real Celery worker with a real broker: what is delivered twice, or again after a kill, takes effect once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from django_idempotency.models import IdempotencyRecord
from example_project.celery import app
from example_project.shop.tasks import redeem
from example_project.stage import ROOT, stop
from tests import crash_points, servers
from tests.doors.live import AMOUNT, Customer, Pause, environment, wait_for
from tests.doors.test_kills import spread
from tests.proofs import dose, milliseconds, note

WAIT_SECONDS, KILLS = 60, dose("KILL_ROUNDS", 1)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600 + 10 * KILLS),
    pytest.mark.processes,
]


@pytest.fixture(scope="module")
def broker() -> Iterator[dict[str, str]]:
    """Run a private Redis, point this process's Celery at it, and return what points a worker there."""
    with servers.redis() as path:
        url = f"redis+socket://{path}"
        app.conf.update(broker_url=url, result_backend=url)
        yield {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
        app.close()


@contextmanager
def worker(log: Path, queue: str = "celery", **switches: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with two child processes, all of them a process group of their own."""
    options = ["worker", "-Q", queue, "-c", "2", "--without-gossip", "--without-mingle", "-l", "info"]
    command = [sys.executable, "-m", "celery", "-A", "example_project", *options]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**switches),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


@pytest.fixture(scope="module")
def workers(
    broker: dict[str, str], django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Run the worker that most tests share."""
    with worker(tmp_path_factory.mktemp("celery") / "worker.log", **broker):
        yield


def deliver(customer: Customer, voucher: str, fault: str = "", queue: str = "celery") -> Any:
    """Put one message into the queue."""
    return redeem.apply_async((voucher, customer.user.username, str(AMOUNT), fault), queue=queue)


def deliver_at(customer: Customer, voucher: str, point: str) -> Any:
    """Put one message into the queue whose worker looks for a point to die at."""
    arguments = (voucher, customer.user.username, str(AMOUNT), "")
    return redeem.apply_async(arguments, headers={crash_points.HEADER: point})


def ended(points: list[str]) -> list[str]:
    """Return the points once the last is among them: a task's value is there before it has ended."""
    return points if points[-1] == "before the answer 1" else []


def values(*results: Any) -> list[Any]:
    """Wait for the tasks and return their values."""
    return [result.get(timeout=WAIT_SECONDS) for result in results]


def test_task_that_is_delivered_twice_takes_effect_once(workers: None) -> None:
    customer = Customer()
    first = values(deliver(customer, "voucher"))
    assert first == values(deliver(customer, "voucher")) == ["5.00"]
    assert values(deliver(customer, "other voucher")) == ["10.00"]
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 2


def test_many_deliveries_at_once_take_effect_once(workers: None) -> None:
    customer = Customer()
    results = [deliver(customer, "voucher") for _ in range(10)]
    assert values(*results) == ["5.00"] * 10
    assert customer.deposits() == 1


@pytest.mark.vendors("postgresql", "mysql")
def test_duplicate_of_a_running_task_is_tried_again_later(workers: None, pause: Pause) -> None:
    customer = Customer()
    first = deliver(customer, "voucher", pause.fault)
    pause.pid()
    duplicate = deliver(customer, "voucher")
    wait_for(lambda: duplicate.state == "RETRY", WAIT_SECONDS)
    assert "InProgress" in repr(duplicate.result)
    assert customer.deposits() == 0
    pause.end()
    assert values(first, duplicate) == ["5.00", "5.00"]
    assert customer.deposits() == 1


def test_task_whose_process_is_killed_in_the_middle_is_delivered_again(
    workers: None, pause: Pause, tmp_path: Path
) -> None:
    customer = Customer()
    result = deliver(customer, "voucher", pause.fault)
    killed = pause.pid()
    pause.file.rename(tmp_path / "seen")
    os.kill(killed, signal.SIGKILL)
    assert pause.pid() != killed, "the second delivery stands in the middle"
    assert customer.deposits() == 0
    pause.end()
    assert values(result) == ["5.00"]
    assert customer.deposits() == 1


def test_task_whose_process_is_killed_after_the_commit_is_not_run_again(workers: None) -> None:
    customer = Customer()
    assert values(deliver(customer, "voucher", "kill-after-commit")) == ["5.00"]
    assert customer.deposits() == 1


def test_task_that_is_killed_at_any_point_takes_effect_once(workers: None, tmp_path: Path) -> None:
    """One kill after the other; ``KILL_ROUNDS`` is how many."""
    customer, trace, waits = Customer(), tmp_path / "trace", []
    values(deliver_at(customer, "trace", f"trace {trace}"))
    points = wait_for(lambda: ended(trace.read_text().splitlines()))
    numbers = spread(KILLS, len(points), 0)
    for done, number in enumerate(numbers, 1):
        seen, started = tmp_path / f"{done}", time.monotonic()
        assert values(deliver_at(customer, f"v{done}", f"{points[number - 1]} {seen}")) == [
            f"{(done + 1) * AMOUNT}"
        ]
        waits.append(time.monotonic() - started)
        assert wait_for(seen.exists), "nobody was killed"
        assert customer.deposits() == IdempotencyRecord.objects.completed().count() == done + 1
    figures = {"kills": len(numbers), "points": len(points), "hit": len(set(numbers))}
    note("tasks", door="celery", **figures, duplicates=0, lost=0, **milliseconds(waits))


@pytest.mark.once
def test_task_whose_whole_worker_is_killed_goes_to_the_next_worker(
    broker: dict[str, str], pause: Pause, tmp_path: Path
) -> None:
    customer = Customer()
    # A worker takes over what is older than this when it starts, and looks again only after 100 s (kombu): so it has
    # to be shorter than any start.
    quick = {**broker, "CELERY_VISIBILITY_TIMEOUT": "0.1"}
    with worker(tmp_path / "first.log", "own", **quick) as first:
        result = deliver(customer, "voucher", pause.fault, "own")
        pause.pid()
        os.killpg(first.pid, signal.SIGKILL)
    pause.file.rename(tmp_path / "seen")
    assert customer.deposits() == 0
    with worker(tmp_path / "second.log", "own", **quick):
        pause.pid()
        pause.end()
        assert values(result) == ["5.00"]
    assert customer.deposits() == 1
