"""The pages and views of the example shop, with the settings that a reader copies."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client

from django_idempotency.conf import FORM_FIELD
from django_idempotency.models import IdempotencyRecord
from example_project import settings as example
from example_project.shop.models import Order
from example_project.shop.webhooks import SIGNATURE, signature
from tests.conftest import Parallel
from tests.doors.conftest import replayed
from tests.doors.live import Customer, Pause
from tests.factories import UserFactory, WalletFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.ROOT_URLCONF = example.ROOT_URLCONF
    settings.MIDDLEWARE = example.MIDDLEWARE
    settings.IDEMPOTENCY = example.IDEMPOTENCY


def test_example_project_has_nothing_to_correct() -> None:
    assert run_checks() == []


# The site


class Browser:
    """Somebody who is logged in, and submits forms with whatever hidden fields the page has."""

    def __init__(self) -> None:
        self.customer = Customer()
        self.client = Client(enforce_csrf_checks=True)
        self.client.force_login(self.customer.user)

    def fields(self, page: HttpResponse | None = None) -> dict[str, str]:
        """Return the hidden fields of a page's form, by default a new one's."""
        text = (page or self.client.get("/shop/")).content.decode()
        form = text.partition("<main>")[2]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', form))

    def submit(self, fields: dict[str, str], **changed: Any) -> HttpResponse:
        filled = {"product": self.customer.product.pk, "quantity": 1, "note": "gift", **changed}
        return self.client.post("/shop/", {**fields, **filled})


@pytest.fixture
def browser() -> Browser:
    return Browser()


def test_form_that_is_submitted_twice_places_one_order_and_leads_to_it(browser: Browser) -> None:
    fields = browser.fields()
    assert set(fields) == {"csrfmiddlewaretoken", FORM_FIELD}
    first, second = browser.submit(fields), browser.submit(fields)
    order = Order.objects.get()
    assert first.headers["Location"] == second.headers["Location"] == f"/shop/orders/{order.pk}/"
    assert (first.status_code, second.status_code) == (302, 302)
    assert (replayed(first), replayed(second)) == (False, True)
    page = browser.client.get(second.headers["Location"]).content.decode()
    assert str(order) in page
    assert "gift" in page


def test_form_with_an_error_is_shown_again_and_can_be_corrected(browser: Browser) -> None:
    fields = browser.fields()
    refused = browser.submit(fields, quantity=0)
    assert (refused.status_code, Order.objects.count()) == (200, 0)
    assert "greater than or equal to 1" in refused.content.decode()
    corrected = browser.fields(refused)
    assert corrected[FORM_FIELD] != fields[FORM_FIELD]
    assert browser.submit(corrected).status_code == 302
    assert Order.objects.count() == 1


def test_what_the_shop_refuses_is_said_in_the_form(browser: Browser) -> None:
    browser.customer.product.__class__.objects.update(stock=0)
    refused = browser.submit(browser.fields())
    assert f"Fewer than 1 left of {browser.customer.product}" in refused.content.decode()
    assert Order.objects.count() == 0


def test_nobody_sees_a_first_answer_after_the_log_out(browser: Browser) -> None:
    fields = browser.fields()
    assert browser.submit(fields).status_code == 302
    browser.client.logout()
    browser.client.get("/login/")  # for a CSRF cookie: the session's is gone
    fields["csrfmiddlewaretoken"] = browser.client.cookies["csrftoken"].value
    answer = browser.submit(fields)
    assert (answer.headers["Location"], replayed(answer)) == ("/login/?next=/shop/", False)


def test_form_without_csrf_token_is_refused_before_any_replay(browser: Browser) -> None:
    fields = browser.fields()
    assert browser.submit(fields).status_code == 302
    assert browser.submit({FORM_FIELD: fields[FORM_FIELD]}).status_code == 403


def test_orders_of_others_are_not_found(browser: Browser) -> None:
    order = Order.place(UserFactory(), browser.customer.product)
    assert browser.client.get(f"/shop/orders/{order.pk}/").status_code == 404


def test_seeded_customer_logs_in_as_it_is_printed() -> None:
    printed = io.StringIO()
    call_command("seed_shop", url="http://127.0.0.1:8001", stdout=printed)
    assert re.findall(r"http://\S+", printed.getvalue()) == [
        "http://127.0.0.1:8001/shop/",
        "http://127.0.0.1:8001/api/orders/",
    ]
    assert "alice: password alice" in printed.getvalue()
    client = Client()
    assert client.get("/", follow=True).redirect_chain == [("/shop/", 302), ("/login/?next=/shop/", 302)]
    answer = client.post("/login/", {"username": "alice", "password": "alice", "next": "/shop/"}, follow=True)
    assert "What would you like?" in answer.content.decode()
    assert client.post("/logout/", follow=True).redirect_chain[0] == ("/shop/", 302)


@pytest.mark.parametrize("path", ["admin/css/base.css", "django_idempotency/admin.css"])
def test_shop_serves_its_style_sheets_without_debug(path: str) -> None:
    answer = Client().get(f"/static/{path}")
    assert (answer.status_code, b"{" in answer.getvalue()) == (200, True)


def test_site_guards_a_view_that_knows_nothing_of_it() -> None:
    customer = Customer()
    headers = {"Authorization": f"Token {customer.token.key}", "Idempotency-Key": "key"}

    def order() -> HttpResponse:
        payload = {"product": customer.product.pk}
        return Client().post("/shop/api/orders/", payload, "application/json", headers=headers)

    first, second = order(), order()
    assert (first.status_code, second.content, replayed(second)) == (201, first.content, True)
    assert customer.orders() == 1


# Plain views


@pytest.fixture(params=["function", "class", "async-function", "async-class"])
def deposit(request: pytest.FixtureRequest) -> Callable[..., HttpResponse]:
    customer = Customer()

    def send(body: Any = '{"amount": "5.00"}', **headers: str) -> HttpResponse:
        own = {"Authorization": f"Token {customer.token.key}", "Idempotency-Key": "key", **headers}
        path = f"/plain/{request.param}/"
        return Client().post(path, body, content_type="application/json", headers=own)

    return send


def test_deposit_is_made_once(deposit: Callable[..., HttpResponse]) -> None:
    first, second = deposit(), deposit()
    assert (first.status_code, first.json(), replayed(first)) == (201, {"balance": "5.00"}, False)
    assert (second.content, replayed(second)) == (first.content, True)
    assert deposit(**{"Idempotency-Key": "other"}).json() == {"balance": "10.00"}


def test_deposit_without_a_key_or_token_is_refused(deposit: Callable[..., HttpResponse]) -> None:
    assert deposit().status_code == 201
    assert deposit(Authorization="Token nobody's").status_code == 401
    assert deposit(**{"Idempotency-Key": " "}).json()["code"] == "invalid-key"


@pytest.mark.parametrize(
    "body", ["", "[]", "{", "\udcff".encode("utf-8", "surrogateescape"), '{"amount": "-1"}']
)
def test_deposit_of_nonsense_is_refused(body: Any, deposit: Callable[..., HttpResponse]) -> None:
    answer = deposit(body)
    assert (answer.status_code, list(answer.json())) == (400, ["amount"])


# Webhooks


def deliver(event: Any, **headers: str) -> HttpResponse:
    """Deliver an event as the provider does, signed."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    sent = {SIGNATURE: signature(body), **headers}
    return Client().post("/webhooks/payments/", body, content_type="application/json", headers=sent)


def event(customer: str, **changed: str) -> dict[str, str]:
    return {"id": "evt_1", "customer": customer, "amount": "5.00", **changed}


def test_event_takes_effect_once_however_often_it_is_delivered() -> None:
    customer = Customer()
    answers = [deliver(event(customer.user.username)) for _ in range(3)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"balance": "5.00"})] * 3
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 1


@pytest.mark.parametrize("sent", ["", "0" * 64, "ü"])
def test_event_that_is_not_signed_by_the_provider_is_refused(sent: str) -> None:
    customer = Customer()
    assert deliver(event(customer.user.username), **{SIGNATURE: sent}).status_code == 401
    assert customer.deposits() == 0


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b"\xff", {"id": "two words"}, {"id": 7, "amount": "NaN"}]
)
def test_malformed_event_is_refused(body: Any) -> None:
    answer = deliver(body)
    assert (answer.status_code, "amount" in answer.json()) == (400, True)


def test_event_of_an_unknown_customer_is_looked_at_again_next_time() -> None:
    assert deliver(event("later")).status_code == 404
    WalletFactory(user__username="later", balance="0.00")
    assert deliver(event("later")).json() == {"balance": "5.00"}


@pytest.mark.vendors("postgresql", "mysql")
def test_event_that_is_being_handled_is_asked_for_again(
    settings: Any, parallel: Parallel, pause: Pause
) -> None:
    settings.SHOP_FAULTS = True
    customer = Customer()
    first = parallel.start(lambda: deliver(event(customer.user.username), **{"X-Shop-Fault": pause.fault}))
    pause.pid()
    second = deliver(event(customer.user.username))
    assert (second.status_code, second.headers["Retry-After"]) == (503, "1")
    pause.end()
    assert first().json() == deliver(event(customer.user.username)).json() == {"balance": "5.00"}
