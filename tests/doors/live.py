"""The example shop on real server processes, and a client for each of its doors."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.test import Client

from django_idempotency.conf import FORM_FIELD
from example_project.shop.models import Order, Wallet
from example_project.shop.webhooks import SIGNATURE, signature
from example_project.stage import Answer
from tests import crash_points
from tests.doors.urls import DOORS, UNDER_MIDDLEWARE
from tests.factories import ProductFactory, TokenFactory, WalletFactory
from tests.prefork import run_command
from tests.views import effects

AMOUNT = Decimal("5.00")
CSRF = "c" * 32


def environment(**switches: str) -> dict[str, str]:
    """Return what leads a process of its own to the shop and all doors on the database of this test run."""
    own = {"DATABASE_NAME": str(connection.settings_dict["NAME"]), "SHOP_FAULTS": "1"}
    return {**os.environ, **own, "DJANGO_SETTINGS_MODULE": "tests.crash_settings", **switches}


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what ``condition`` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
    return value


class Pause:
    """The accident ``pause``: some process stands still in the middle of its work."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.fault = f"pause={self.file}"

    def pid(self) -> int:
        """Wait until a process stands still, and return its id."""
        return int(wait_for(lambda: self.file.exists() and self.file.read_text()))

    def end(self) -> None:
        """Let it go on."""
        self.file.unlink()


class Customer:
    """A customer with a wallet, a token and a browser session, and a product to order."""

    def __init__(self) -> None:
        self.token = TokenFactory()
        self.user = self.token.user
        self.wallet = WalletFactory(user=self.user, balance="0.00")
        self.product = ProductFactory(stock=100_000)
        browser = Client()
        browser.force_login(self.user)
        self.cookies = f"sessionid={browser.cookies['sessionid'].value}; csrftoken={CSRF}"

    def orders(self) -> int:
        """Return how many orders there are."""
        return Order.objects.filter(user=self.user).count()

    def deposits(self) -> int:
        """Return how many times AMOUNT was added to the wallet."""
        return int(Wallet.objects.get(pk=self.wallet.pk).balance / AMOUNT)


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send one request on a connection of its own; status 0 is a connection that was lost."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            client.request("POST", path, body, headers)
            response = client.getresponse()
            return Answer(response.status, response.reason, dict(response.headers), response.read())
    except (ConnectionError, http.client.HTTPException):
        return Answer(0, "the connection is lost")


def accident(fault: str) -> dict[str, str]:
    """Return the header that asks for a crash at a point (``at …``) or for an accident of the shop's."""
    return {crash_points.HEADER: fault[3:]} if fault.startswith("at ") else {"X-Shop-Fault": fault}


def by_token(path: str, payload: Callable[[Customer], dict[str, Any]]) -> Send:
    """Return a client of a view that takes JSON and a token."""

    def send(port: int, customer: Customer, key: str, fault: str) -> Answer:
        headers = {"Authorization": f"Token {customer.token.key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key, **accident(fault)}
        return post(port, path, json.dumps(payload(customer)).encode(), headers)

    return send


def by_form(port: int, customer: Customer, key: str, fault: str) -> Answer:
    """Submit the order form as a browser does."""
    fields = {"csrfmiddlewaretoken": CSRF, FORM_FIELD: key, **order(customer)}
    headers = {"Cookie": customer.cookies, "Content-Type": "application/x-www-form-urlencoded"}
    return post(port, "/shop/", urlencode(fields).encode(), headers | accident(fault))


def by_provider(port: int, customer: Customer, key: str, fault: str) -> Answer:
    """Deliver an event as the payment provider does."""
    event = {"id": key, "customer": customer.user.username, "amount": str(AMOUNT)}
    body = json.dumps(event).encode()
    return post(port, "/webhooks/payments/", body, {SIGNATURE: signature(body), **accident(fault)})


def by_command(port: int, customer: Customer, key: str, fault: str) -> Answer:
    """Run the command in a process of its own; status 0 is one that was killed."""
    at, fault = (fault[3:], "") if fault.startswith("at ") else ("", fault)
    arguments = ["pay_wages", "--run-id", key, "--amount", str(AMOUNT), "--fault", fault]
    with NamedTemporaryFile() as file:
        code = run_command(arguments, environment(**{crash_points.VARIABLE: at}), Path(file.name))
        return Answer(200 if code == 0 else min(code + 9, 500), "", body=file.read())


def by_kind(path: str) -> Send:
    """Return a client of a view of the tests, of whichever kind."""

    def send(port: int, customer: Customer, key: str, fault: str) -> Answer:
        headers = {"Idempotency-Key": key, "Content-Type": "application/json", **accident(fault)}
        headers |= {"Cookie": f"csrftoken={CSRF}", "X-CSRFToken": CSRF}
        return post(port, path, b'{"amount": 1}', headers)

    return send


def products(customer: Customer) -> int:
    """Return how many effects those views have had."""
    return effects() - 1


def order(customer: Customer) -> dict[str, Any]:
    """Return what to order."""
    return {"product": customer.product.pk, "quantity": 1}


def deposit(customer: Customer) -> dict[str, Any]:
    """Return what to add to the wallet."""
    return {"amount": str(AMOUNT)}


Send = Callable[[int, Customer, str, str], Answer]


@dataclass(frozen=True)
class LiveDoor:
    """One door of the shop: its server, how a request is sent, what is answered, and how often it is killed."""

    server: str
    send: Send
    effects: Callable[[Customer], int]
    status: int = 201
    says_replayed: bool = True
    rounds: int = 1


LIVE_DOORS = {
    "mixin": LiveDoor("gunicorn", by_token("/api/orders/", order), Customer.orders, rounds=3),
    "function": LiveDoor("gunicorn", by_token("/plain/function/", deposit), Customer.deposits),
    "method": LiveDoor("gunicorn", by_token("/plain/class/", deposit), Customer.deposits),
    "async-function": LiveDoor("uvicorn", by_token("/plain/async-function/", deposit), Customer.deposits),
    "async-class": LiveDoor("uvicorn", by_token("/plain/async-class/", deposit), Customer.deposits),
    "site-form": LiveDoor("gunicorn", by_form, Customer.orders, status=302),
    "site-drf": LiveDoor("gunicorn", by_token("/shop/api/orders/", order), Customer.orders),
    "webhook": LiveDoor("gunicorn", by_provider, Customer.deposits, status=200, says_replayed=False),
    "command": LiveDoor("none", by_command, Customer.deposits, status=200, says_replayed=False),
}
KINDS = {
    name: LiveDoor("gunicorn", by_kind(f"/{folder}/{name}/201/"), products, rounds=2)
    for folder, doors in (("doors", DOORS), ("site", UNDER_MIDDLEWARE))
    for name in doors
}
