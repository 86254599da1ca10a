"""A form with ``{% idempotency_key %}`` in a real browser: whatever people do with it, there is one order."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from example_project.shop.models import Product
from tests.browser.views import PAUSE
from tests.views import effects

pytestmark = [
    pytest.mark.urls("tests.browser.urls"),
    pytest.mark.parametrize("door", ["decorated", "site"]),
]
with_and_without_javascript = pytest.mark.parametrize(
    "page", [True, False], indirect=True, ids=["javascript", "no-javascript"]
)


def fill(page: Page, path: str, name: str = "Teapot") -> None:
    page.goto(path)
    page.get_by_label("Name").fill(name)


def press(page: Page, *, twice: bool = False) -> None:
    """Click as people do, without waiting for the answer; the second click comes while the first is being served."""
    box = page.get_by_role("button").bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    if twice:
        PAUSE.until(1)
        page.mouse.click(*middle)


def shown_order(page: Page) -> str:
    expect(page.get_by_role("heading")).to_contain_text("Order ")
    return page.get_by_role("heading").inner_text()


@with_and_without_javascript
def test_double_click_makes_one_order_and_shows_it(page: Page, door: str) -> None:
    fill(page, f"/{door}/page/")
    PAUSE.wanted = 2
    press(page, twice=True)
    shown = shown_order(page)
    assert (PAUSE.arrived, effects()) == (2, 1)
    assert shown == f"Order {Product.objects.get().pk}"


@with_and_without_javascript
def test_reload_of_the_answer_makes_no_second_order(page: Page, door: str) -> None:
    fill(page, f"/{door}/page/")
    press(page)
    shown = shown_order(page)
    page.reload()
    assert (shown_order(page), PAUSE.arrived, effects()) == (shown, 2, 1)


@with_and_without_javascript
@pytest.mark.parametrize("form", ["redirect", "own-url/redirect", "own-url/page"])
def test_back_and_submit_again_shows_the_first_order(page: Page, door: str, form: str) -> None:
    fill(page, f"/{door}/{form}/")
    press(page)
    shown = shown_order(page)
    page.go_back(wait_until="commit")
    expect(page.get_by_label("Name")).to_have_value("Teapot")
    press(page)
    assert (shown_order(page), PAUSE.arrived, effects()) == (shown, 2, 1)


def test_redirect_is_replayed(page: Page, door: str) -> None:
    """The browser follows the second of two clicks, so the order that it shows is the replay's."""
    fill(page, f"/{door}/redirect/")
    PAUSE.wanted = 2
    with page.expect_response(lambda answer: answer.status == 302) as seen:
        press(page, twice=True)
    assert seen.value.header_value("idempotent-replayed") == "true"
    expect(page).to_have_url(re.compile(r"/done/\d+/$"))
    assert (shown_order(page), effects()) == (f"Order {Product.objects.get().pk}", 1)


@with_and_without_javascript
def test_changed_entry_on_the_old_page_is_refused_in_words_for_people(page: Page, door: str) -> None:
    fill(page, f"/{door}/own-url/page/")
    press(page)
    shown_order(page)
    page.go_back(wait_until="commit")
    page.get_by_label("Name").fill("Kettle")
    press(page)
    expect(page.get_by_role("heading")).to_have_text("This form has been sent already")
    assert (effects(), Product.objects.get().name) == (1, "Teapot")
    page.get_by_role("link").click()
    expect(page.get_by_label("Name")).to_have_value("")
    page.get_by_label("Name").fill("Kettle")
    press(page)
    shown_order(page)
    assert effects() == 2


@with_and_without_javascript
def test_form_with_errors_can_be_corrected(page: Page, door: str) -> None:
    fill(page, f"/{door}/page/", name=" ")
    press(page)
    expect(page.get_by_text("This field is required.")).to_have_count(1)
    page.get_by_label("Name").fill("Teapot")
    press(page)
    shown_order(page)
    assert (PAUSE.arrived, effects()) == (2, 1)
