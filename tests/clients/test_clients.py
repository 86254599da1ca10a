"""SDKs that nobody here wrote, on a live server, with every accident on the way: one effect, and the first answer.

The table that this prints is the one in docs/guide/clients.md. What a client does on a fault is its own affair,
whatever the database: all of it is tried on PostgreSQL, and one client on the others; ``EVERY_CLIENT=1`` tries all
everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import stripe
from django.db import connection
from httpx_retries import Retry, RetryTransport
from modern_treasury import APIError, ModernTreasury

from example_project.shop.models import Order, Product, Receipt
from example_project.stage import gunicorn
from tests.clients.proxy import Proxy
from tests.factories import ProductFactory, TokenFactory
from tests.test_docs import TOP, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.processes]

NOTE = "sent once"
RETRIES = 5

Call = Callable[[int, str, "str | None"], str]


def stripe_form(port: int, token: str, key: str | None = None) -> str:
    """Return the id in the answer to a form; without ``key``, the SDK makes its own."""
    address: Any = {"api": f"http://127.0.0.1:{port}"}
    client = stripe.StripeClient(token, base_addresses=address, max_network_retries=RETRIES)
    wanted: Any = {"amount": 1000, "currency": "eur", "description": NOTE}
    options: Any = {} if key is None else {"idempotency_key": key}
    return client.v1.payment_intents.create(wanted, options).id


def modern_treasury(port: int, token: str) -> ModernTreasury:
    return ModernTreasury(
        organization_id="shop", api_key=token, base_url=f"http://127.0.0.1:{port}", max_retries=RETRIES
    )


def modern_treasury_json(port: int, token: str, key: str | None = None) -> str:
    with modern_treasury(port, token) as client:
        order = client.payment_orders.create(
            amount=1000,
            direction="credit",
            originating_account_id="1",
            type="ach",
            description=NOTE,
            idempotency_key=key,
        )
    return order.id


def modern_treasury_upload(port: int, token: str, key: str | None = None) -> str:
    with modern_treasury(port, token) as client:
        file = ("receipt.pdf", b"%PDF" + bytes(100_000), "application/pdf")
        return client.documents.create(file=file, document_type=NOTE, idempotency_key=key).id


def httpx_with(retry: Retry) -> Call:
    def call(port: int, token: str, key: str | None = None) -> str:
        headers = {"Authorization": f"Token {token}", "Idempotency-Key": key or "made-by-the-caller"}
        with httpx.Client(transport=RetryTransport(retry=retry), headers=headers, timeout=60) as client:
            body = {"product": Product.objects.get().pk, "note": NOTE}
            response = client.post(f"http://127.0.0.1:{port}/api/orders/", json=body)
            response.raise_for_status()
            return str(response.json()["id"])

    return call


CLIENTS: dict[str, Call] = {
    "stripe, form": stripe_form,
    "modern-treasury, JSON": modern_treasury_json,
    "modern-treasury, multipart": modern_treasury_upload,
    "httpx-retries, POST and 409": httpx_with(
        Retry(RETRIES, ["POST"], [409, 503], backoff_factor=0.2, backoff_jitter=0.1)
    ),
    "httpx-retries, POST": httpx_with(Retry(RETRIES, ["POST"], backoff_factor=0.2, backoff_jitter=0.1)),
}
FAULTS: dict[str, dict[str, str]] = {
    "none": {},
    "cut before the answer": {"cut": "before the answer"},
    "cut after the answer": {"cut": "after the answer"},
    "cut within the answer": {"cut": "in the answer"},
    "killed after the write": {"fault": "kill-after-write"},
    "killed after COMMIT": {"fault": "kill-after-commit"},
    "409 while running": {"fault": "sleep=1.5", "cut": "before the answer"},
}

# What a client does not retry by its own design, so that whoever called it has to: `requests`, below stripe, takes a
# body that ends early for another kind of error; httpx reads the body above the transport that retries.
BY_HAND = {
    ("stripe, form", "cut within the answer"),
    ("httpx-retries, POST and 409", "cut within the answer"),
    ("httpx-retries, POST", "cut within the answer"),
    ("httpx-retries, POST", "409 while running"),
}
GIVEN_UP = (stripe.StripeError, httpx.HTTPError, APIError)


ELSEWHERE = "modern-treasury, JSON"


def tries(client: str, fault: str) -> Any:
    everywhere = client == ELSEWHERE or "EVERY_CLIENT" in os.environ
    return pytest.param(client, fault, marks=[] if everywhere else pytest.mark.vendors("postgresql"))


def expected(client: str, fault: str, vendor: str = "postgresql") -> str:
    """Return a cell of the table; on SQLite a duplicate waits for the first request and never sees a 409."""
    status = 200 if client.startswith("stripe") else 201
    waits = vendor == "sqlite" and fault == "409 while running"
    by_hand = (client, fault) in BY_HAND and not waits
    return f"1, {status}, sent again by hand" if by_hand else f"1, {status}"


def in_full(cells: Callable[[str, str], str]) -> list[list[str]]:
    return [[fault, *(cells(client, fault) for client in CLIENTS)] for fault in FAULTS]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[int]:
    own = {"SHOP_FAULTS": "1", "DJANGO_SETTINGS_MODULE": "tests.clients.settings"}
    environment = {**os.environ, **own, "DATABASE_NAME": str(connection.settings_dict["NAME"])}
    with gunicorn(environment, tmp_path_factory.mktemp("clients") / "gunicorn.log", threads=4) as number:
        yield number


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[dict[tuple[str, str], str]]:
    """Collect what was measured, and print it in the form that the guide has it."""
    found: dict[tuple[str, str], str] = {}
    yield found
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n| fault |", " | ".join(CLIENTS), "|")
        for row in in_full(lambda client, fault: found.get((client, fault), "not run")):
            print("|", " | ".join(row), "|")


def effects() -> list[str]:
    """Return the numbers of all that was ordered or sent in."""
    numbers = [*Order.objects.values_list("pk", flat=True), *Receipt.objects.values_list("pk", flat=True)]
    return [str(number) for number in numbers]


def ends(call: Call, proxy: Proxy, token: str) -> tuple[str, str]:
    """Return the number that the client ends with, and how it came to it."""
    try:
        return call(proxy.port, token, None), ""
    except GIVEN_UP:
        proxy.settle()
        return call(proxy.port, token, proxy.keys[0]), ", sent again by hand"


@pytest.mark.parametrize(
    ("client", "fault"), [tries(client, fault) for client in CLIENTS for fault in FAULTS]
)
def test_client_ends_with_the_first_answer_and_one_effect(
    port: int, table: dict[tuple[str, str], str], client: str, fault: str
) -> None:
    ProductFactory()
    with Proxy(port, **FAULTS[fault]) as proxy:
        number, how = ends(CLIENTS[client], proxy, TokenFactory().key)
    (effect,) = effects()
    assert number.removeprefix("pi_") == effect
    assert len(set(proxy.keys)) == 1
    assert (len(proxy.keys) > 1) == (fault != "none"), "the fault did not strike"
    assert (409 in proxy.statuses) == (fault == "409 while running" and connection.vendor != "sqlite")
    table[client, fault] = f"{len(effects())}, {proxy.statuses[-1]}{how}"
    assert table[client, fault] == expected(client, fault, connection.vendor)


def test_upload_is_known_again_under_a_new_boundary(port: int) -> None:
    with Proxy(port, cut="after the answer") as proxy:
        modern_treasury_upload(proxy.port, TokenFactory().key)
    first, retry = [request.partition(b"\r\n\r\n")[2] for request in proxy.requests]
    assert first != retry
    assert len(first) == len(retry)
    assert len(effects()) == 1


@pytest.mark.once
def test_guide_has_the_table() -> None:
    page = (TOP / "docs/guide/clients.md").read_text(encoding="utf-8")
    assert rows(page, "What was tried") == in_full(expected)
    assert f"| fault | {' | '.join(CLIENTS)} |" in page
