"""The promise on real server processes: 50 races of 32 requests, and 50 kills, on the database of this run."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Order
from example_project.stage import Answer, gunicorn
from tests.conftest import Parallel
from tests.factories import ProductFactory, TokenFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.processes]

ROUNDS, CROWD = 50, 32
KILLS = ["kill-after-write", "kill-before-commit", "kill-after-commit"]


class Shop:
    """A running shop on the test database, and one customer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.product = ProductFactory(stock=100_000)
        self.token = TokenFactory()

    def order(self, key: str, fault: str = "") -> Answer:
        headers = {"Authorization": f"Token {self.token.key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key, "X-Shop-Fault": fault}
        body = json.dumps({"product": self.product.pk, "note": key})
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as client:
                client.request("POST", "/api/orders/", body, headers)
                response = client.getresponse()
                return Answer(response.status, response.reason, dict(response.headers), response.read())
        except (ConnectionError, http.client.HTTPException):
            return Answer(0, "connection lost")


def environment(atomic_requests: bool) -> dict[str, str]:
    name = str(connection.settings_dict["NAME"])
    switches = {"SHOP_FAULTS": "1", "ATOMIC_REQUESTS": str(int(atomic_requests))}
    return {
        **os.environ,
        **switches,
        "DATABASE_NAME": name,
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
    }


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with gunicorn(environment(request.param), tmp_path / "gunicorn.log", threads=8) as port:
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
    keys = {f"{fault}-{number}": fault for number in range(9) for fault in KILLS}
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
