"""The database's connection is cut exactly at COMMIT, behind every door: 503, and the retry reads the truth (I10).

20 cuts each way are the dose for each change; ``CUT_ROUNDS=500`` is the full one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.cutter import Cutter, cutter
from tests.doors.conftest import Door, replayed
from tests.doors.urls import DOORS, UNDER_MIDDLEWARE
from tests.proofs import dose, milliseconds, note
from tests.views import effects

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
    pytest.mark.vendors("postgresql", "mysql"),
    pytest.mark.processes,
]

ROUNDS = dose("CUT_ROUNDS", 20)


@pytest.fixture
def proxy(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    """Connect through a proxy, in every thread of the test."""
    with cutter(str(connection.settings_dict["HOST"])) as proxy, monkeypatch.context() as patch:
        connection.close()
        patch.setitem(connection.settings_dict, "HOST", proxy.host)
        yield proxy
        connection.close()


def retry(door: Door, key: str) -> tuple[Any, float]:
    """Retry at once; return the answer, and for how long the server still held what its client had left behind."""
    started, busy = time.monotonic(), 0.0
    while (answer := door.send(key=key)).status_code == 409:
        busy = time.monotonic() - started
        assert busy < 10, "the key is still busy"
    return answer, busy


@pytest.mark.parametrize(("moment", "committed"), [("before", 0), ("after", 1)])
def test_connection_cut_at_commit_is_503_and_the_retry_reads_the_truth(
    moment: str, committed: int, doors: None, proxy: Cutter
) -> None:
    busy = []
    for done, name in enumerate(islice(cycle([*DOORS, *UNDER_MIDDLEWARE]), ROUNDS)):
        door, key = Door(name), f"k{done}"
        proxy.arm(moment)
        lost = door.send(key=key)
        assert (lost.status_code, lost.headers["Retry-After"]) == (503, "1"), name
        assert "outcome is unknown" in lost.json()["detail"]
        answer, seconds = retry(door, key)
        busy.append(seconds)
        assert (answer.status_code, replayed(answer)) == (201, bool(committed)), name
        assert effects() == IdempotencyRecord.objects.completed().count() == done + 1
    assert proxy.cuts[moment] == ROUNDS
    note("cuts", moment=moment, cuts=ROUNDS, duplicates=0, lost=0, **milliseconds(busy))
