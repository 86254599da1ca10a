"""The browsable API of a view that requires keys, in a real browser under a strict Content-Security-Policy."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.browser.views import PAUSE
from tests.factories import UserFactory
from tests.views import effects

pytestmark = pytest.mark.urls("tests.browser.urls")

KETTLE = '{"name": "Kettle", "price": "1.00", "stock": 1}'


@pytest.fixture
def shown(page: Page, live_server: Any, settings: Any, client: Any) -> Page:
    settings.IDEMPOTENCY = {"REQUIRED": True}
    client.force_login(UserFactory())
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
    )
    page.goto("/drf/")
    return page


def filled(page: Page, tab: str) -> Locator:
    """Fill one of the two forms and return its button."""
    page.get_by_role("link", name=tab).click()
    if tab == "Raw data":
        page.locator("#post-generic-content-form textarea").fill(KETTLE)
        return page.locator("#post-generic-content-form button")
    for name, value in (("name", "Kettle"), ("price", "1.00"), ("stock", "1")):
        page.locator(f"#post-object-form [name={name}]").fill(value)
    return page.locator("#post-object-form button")


def click(page: Page, button: Locator, *, times: int) -> None:
    """Click as people do; each click comes while the one before is being served."""
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box
    PAUSE.wanted = times
    for number in range(times):
        PAUSE.until(number)
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


@pytest.mark.parametrize("tab", ["HTML form", "Raw data"])
def test_double_click_makes_one_product_and_shows_it(shown: Page, tab: str) -> None:
    refused: list[str] = []
    shown.on("console", lambda message: refused.append(message.text) if "Policy" in message.text else None)
    click(shown, filled(shown, tab), times=2)
    expect(shown.locator(".response-info")).to_contain_text("201 Created")
    record = IdempotencyRecord.objects.get()
    expect(shown.locator("#idempotency-state")).to_have_text(f"Idempotency-Key: {record.key} · answered")
    expect(shown.locator(".response-info")).to_contain_text(f'"id": {Product.objects.get().pk}')
    assert (PAUSE.arrived, effects(), refused) == (2, 1, [])


def test_page_of_an_answer_is_ready_for_the_next_action(shown: Page) -> None:
    for tab in ("Raw data", "HTML form", "Raw data"):
        with shown.expect_response(lambda answer: answer.request.method == "POST") as seen:
            click(shown, filled(shown, tab), times=1)
        assert seen.value.status == 201
        expect(shown.locator(".response-info")).to_contain_text(f'"id": {Product.objects.latest("pk").pk}')
    assert effects() == IdempotencyRecord.objects.completed().count() == 3
