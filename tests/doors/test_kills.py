"""Every door of the example shop × every moment of a kill, with real processes and SIGKILL, on this run's database.

51 kills are the dose for each change; ``KILL_ROUNDS=20`` in the environment gives twenty times as many.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from django_idempotency.models import IdempotencyRecord
from example_project.stage import Answer, gunicorn, uvicorn
from tests.doors.live import LIVE_DOORS, Customer, LiveDoor, environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600), pytest.mark.processes]

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
KILLS = ["kill-after-write", "kill-before-commit", "kill-after-commit"]
BUSY = {0, 409, 503}


@pytest.fixture(scope="module")
def ports(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Serve the shop by WSGI and by ASGI, several workers each."""
    logs = tmp_path_factory.mktemp("logs")
    sync = gunicorn(environment(), logs / "gunicorn.log", threads=4)
    with sync as wsgi, uvicorn(environment(), logs / "uvicorn.log", workers=3) as (asgi, _):
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


@pytest.mark.parametrize("name", LIVE_DOORS)
def test_killed_owner_blocks_nobody_and_leaves_one_effect(name: str, ports: dict[str, int]) -> None:
    door, customer = LIVE_DOORS[name], Customer()
    port = ports[door.server]
    keys = {f"{fault}-{number}": fault for number in range(ROUNDS * door.rounds) for fault in KILLS}
    for done, (key, fault) in enumerate(keys.items()):
        assert door.send(port, customer, key, fault).status == 0, "nobody was killed"
        assert door.effects(customer) == done + (fault == "kill-after-commit")
        answer, busy = retry(door, port, customer, key)
        assert answer.status == door.status, answer
        assert answer.replayed == (door.says_replayed and fault == "kill-after-commit")
        assert busy < 1
        assert door.effects(customer) == done + 1
    again = door.send(port, customer, key, "")
    assert (again.status, again.body) == (answer.status, answer.body)
    assert door.effects(customer) == len(keys)
    assert IdempotencyRecord.objects.completed().count() == len(keys)
