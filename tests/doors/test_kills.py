"""Every door × every point before and after a step, with real processes and SIGKILL, on this run's database.

The first request of a door lists its points; then a process is killed at one after the other. 65 kills are the
dose for each change, spread over doors and points; ``KILL_ROUNDS=1000`` gives each door as many.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_idempotency.models import IdempotencyRecord
from example_project.stage import Answer, gunicorn, serving
from tests.doors.live import KINDS, LIVE_DOORS, Customer, LiveDoor, environment
from tests.proofs import milliseconds, note

ROUNDS = int(os.environ.get("KILL_ROUNDS") or 0)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600 + 5 * ROUNDS),
    pytest.mark.processes,
]

BUSY = {0, 409, 503}
ALL_DOORS = {**LIVE_DOORS, **{f"kind-{name}": door for name, door in KINDS.items()}}
RECORD = IdempotencyRecord._meta.db_table


@pytest.fixture(scope="module")
def ports(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Serve all doors by WSGI and by ASGI, several workers each."""
    logs = tmp_path_factory.mktemp("logs")
    sync = gunicorn(environment(), logs / "gunicorn.log", threads=4)
    preforked = serving(["tests.prefork", "{fd}", "3"], environment(), logs / "uvicorn.log")
    with sync as wsgi, preforked as (asgi, _):
        yield {"gunicorn": wsgi, "uvicorn": asgi, "none": 0}


def retry(door: LiveDoor, port: int, customer: Customer, key: str) -> tuple[Answer, float]:
    """Retry at once, as an impatient client does; return the answer, and for how long the key was not usable.

    A connection that nobody takes yet says nothing about the key: the next worker has to start.
    """
    started, busy = time.monotonic(), 0.0
    while (answer := door.send(port, customer, key, "")).status in BUSY:
        busy = time.monotonic() - started
        assert busy < 30, f"the key is still busy: {answer}"
    return answer, busy


def spread(count: int, points: int, start: int) -> list[int]:
    """Return the numbers of ``count`` points, far from each other, and all of them when there are enough."""
    if count >= points:
        return [1 + (start + number) % points for number in range(count)]
    return [1 + int((start + number) * 0.618034 * points) % points for number in range(count)]


def number_of_commit(points: list[str]) -> int:
    """Return the number of the point after the COMMIT that finishes the record: the first one after its last write."""
    written = max(number for number, point in enumerate(points) if RECORD in point)
    return next(
        number for number, point in enumerate(points, 1) if number > written and "after COMMIT" in point
    )


def test_points_are_spread_and_none_is_left_out() -> None:
    assert set(spread(20, 20, 3)) == set(range(1, 21))
    assert len({spread(1, 20, door)[0] for door in range(36)}) > 15
    assert sum(door.rounds for door in ALL_DOORS.values()) == 65, "docs/proof.md says so"


@pytest.mark.parametrize("name", ALL_DOORS)
def test_killed_owner_blocks_nobody_and_leaves_one_effect(
    name: str, ports: dict[str, int], tmp_path: Path
) -> None:
    door, customer, waits = ALL_DOORS[name], Customer(), []
    port, trace = ports[door.server], tmp_path / "trace"
    assert door.send(port, customer, "trace", f"at trace {trace}").status == door.status
    points = trace.read_text().splitlines()
    commit = number_of_commit(points)
    numbers = spread(ROUNDS or door.rounds, len(points), list(ALL_DOORS).index(name))
    for done, number in enumerate(numbers, 1):
        key, point = f"k{done}", points[number - 1]
        assert door.send(port, customer, key, f"at {point} {tmp_path / key}").status == 0, f"alive {point}"
        assert door.effects(customer) == done + (number >= commit), point
        answer, busy = retry(door, port, customer, key)
        waits.append(busy)
        assert answer.status == door.status, (point, answer)
        assert answer.replayed == (door.says_replayed and number >= commit), point
        assert door.effects(customer) == IdempotencyRecord.objects.completed().count() == done + 1, point
    assert max(waits) < 1
    again = door.send(port, customer, key, "")
    assert (again.status, again.body) == (answer.status, answer.body)
    assert door.effects(customer) == len(numbers) + 1
    hit = len(set(numbers))
    note(
        "kills",
        door=name,
        kills=len(numbers),
        points=len(points),
        hit=hit,
        duplicates=0,
        lost=0,
        **milliseconds(waits),
    )
