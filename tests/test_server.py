"""The promise on real server processes, with ATOMIC_REQUESTS and without: 50 races of 32 requests, and 54 kills."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Order
from example_project.stage import Answer, gunicorn
from tests.conftest import Parallel
from tests.doors.live import Customer, by_token, environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.processes]

ROUNDS, CROWD = 50, 32
KILLS = ["kill-after-write", "kill-before-commit", "kill-after-commit"]


class Shop:
    """A running shop on the test database, and one customer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.customer = Customer()

    def order(self, key: str, fault: str = "") -> Answer:
        send = by_token("/api/orders/", lambda customer: {"product": customer.product.pk, "note": key})
        return send(self.port, self.customer, key, fault)


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    switches = environment(ATOMIC_REQUESTS=str(int(request.param)))
    with gunicorn(switches, tmp_path / "gunicorn.log", threads=8) as port:
        yield Shop(port)


def effects() -> dict[str, int]:
    return Counter(Order.objects.values_list("note", flat=True))


def test_simultaneous_requests_with_one_key_have_one_effect(shop: Shop, parallel: Parallel) -> None:
    keys = [f"race-{number}" for number in range(ROUNDS // 2)]
    for key in keys:
        answers = parallel.at_once(CROWD, lambda _, key=key: shop.order(key))
        assert {answer.status for answer in answers} <= {201, 409}
        created = [answer for answer in answers if answer.status == 201]
        assert len({answer.body for answer in created}) == 1
        assert sum(not answer.replayed for answer in created) == 1
    assert effects() == dict.fromkeys(keys, 1)


def retry_until_answered(shop: Shop, key: str) -> tuple[Answer, float, float]:
    """Retry at once, as an impatient client does; return the answer, and after how many seconds the last
    409 and the answer came.
    """
    started, busy = time.monotonic(), 0.0
    while (answer := shop.order(key)).status in (0, 409):
        busy = time.monotonic() - started
        assert busy < 30, f"the key is still busy: {answer}"
    return answer, busy, time.monotonic() - started


def test_killed_owner_blocks_nobody_and_leaves_one_effect(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {f"{fault}-{number}": fault for number in range(3) for fault in KILLS}
    busy, waits = [], []
    for key, fault in keys.items():
        assert shop.order(key, fault).status == 0, "the server was not killed"
        answer, blocked, seconds = retry_until_answered(shop, key)
        assert (answer.status, answer.replayed) == (201, fault == "kill-after-commit")
        busy.append(blocked)
        waits.append(seconds)
    assert effects() == dict.fromkeys(keys, 1)
    assert IdempotencyRecord.objects.completed().count() == len(keys)
    assert max(busy) < 1
    with capsys.disabled():
        middle = sorted(waits)[len(waits) // 2] * 1000
        print(
            f"\n{len(waits)} kills: last 409 after {max(busy) * 1000:.0f} ms, answer after {middle:.0f} ms (median)"
        )
