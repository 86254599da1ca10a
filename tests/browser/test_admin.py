"""The admin in a real browser: tiles, charts, search, actions, keyboard, dark mode, and a strict policy."""

from __future__ import annotations

import re
from typing import Any

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import HTML, LIST, url_of
from tests.factories import IdempotencyRecordFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.once]


def keys(page: Any) -> list[str]:
    page.wait_for_load_state()
    return [text.strip() for text in page.locator("#result_list .idem-key").all_text_contents()]


def test_tile_leads_to_its_records_by_keyboard_alone(admin_page: Any, three: list[Any]) -> None:
    admin_page.goto(f"{admin_page.base}{LIST}")
    tile = admin_page.get_by_role("link", name="Expiring soon")
    tile.focus()
    outline = tile.evaluate("element => getComputedStyle(element).textDecorationLine")
    assert outline == "none"
    admin_page.keyboard.press("Enter")
    admin_page.wait_for_url("**/?expiry=soon")
    assert keys(admin_page) == ["order-soon"]


def test_chart_opens_as_a_table_by_keyboard(admin_page: Any, three: list[Any]) -> None:
    admin_page.goto(f"{admin_page.base}{LIST}")
    assert admin_page.get_by_role("img", name="Expiring per hour").count() == 1
    table = admin_page.locator(".idem-chart table").first
    assert not table.is_visible()
    admin_page.locator(".idem-chart summary").first.focus()
    admin_page.keyboard.press("Enter")
    table.wait_for(state="visible")
    assert table.locator("tbody tr").count() == 24


def test_search_finds_a_key(admin_page: Any, three: list[Any]) -> None:
    admin_page.goto(f"{admin_page.base}{LIST}")
    admin_page.fill("#searchbar", "order-old")
    admin_page.keyboard.press("Enter")
    admin_page.wait_for_url("**/?q=order-old")
    assert keys(admin_page) == ["order-old"]


def test_action_is_asked_confirmed_and_told(admin_page: Any, three: list[Any]) -> None:
    admin_page.goto(f"{admin_page.base}{LIST}")
    admin_page.locator("input.action-select").first.check()
    admin_page.select_option("select[name=action]", "expire_now")
    admin_page.click("button[name=index]")
    admin_page.get_by_text("Expire 1 live record now?").wait_for()
    admin_page.get_by_role("button", name="Yes, I’m sure").click()
    admin_page.get_by_text("1 record expired.").wait_for()
    assert IdempotencyRecord.objects.expired().count() == 2


def test_hostile_content_runs_nothing(admin_page: Any) -> None:
    hostile = HTML.replace("alert('x')", "document.title = 'owned'")
    record = IdempotencyRecordFactory(
        **dict.fromkeys(("key", "scope", "path"), hostile), completed=True, response_body=hostile.encode()
    )
    for url in (LIST, url_of(record)):
        admin_page.goto(f"{admin_page.base}{url}")
        assert admin_page.title() != "owned"
    assert admin_page.locator(".field-shown_body pre").inner_text().strip() == hostile


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(admin_page: Any, three: list[Any], scheme: str) -> None:
    admin_page.emulate_media(color_scheme=scheme)
    admin_page.goto(f"{admin_page.base}{LIST}")
    for selector in (".idem-value", ".idem-note", ".idem-badge", ".idem-status", ".idem-scope"):
        assert contrast(admin_page, selector) >= 4.5, selector


def contrast(page: Any, selector: str) -> float:
    """Return the contrast ratio (WCAG 2) of an element's text on the nearest background."""
    script = """selector => {
        let element = document.querySelector(selector), text = getComputedStyle(element).color, back;
        do { back = getComputedStyle(element).backgroundColor; element = element.parentElement }
        while (back === "rgba(0, 0, 0, 0)" && element);
        return [text, back]
    }"""
    light, dark = sorted(map(_luminance, page.evaluate(script, selector)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_no_wider_than_its_window(admin_page: Any, three: list[Any], width: int) -> None:
    admin_page.set_viewport_size({"width": width, "height": 800})
    for url in (LIST, url_of(three[0])):
        admin_page.goto(f"{admin_page.base}{url}")
        panel = admin_page.locator(".idem-panel, .idem-summary").first.bounding_box()
        assert panel["x"] + panel["width"] <= width


def test_label_stands_right_above_its_value_on_a_phone(admin_page: Any, three: list[Any]) -> None:
    admin_page.set_viewport_size({"width": 400, "height": 800})
    admin_page.goto(f"{admin_page.base}{url_of(three[0])}")
    label, value = (
        admin_page.locator(f".field-whole_key {part}").first.bounding_box() for part in ("label", ".readonly")
    )
    assert 0 < value["y"] - label["y"] < 60


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("action", ["extend_expiry", "delete_records"])
def test_no_is_as_high_as_yes_and_looks_different(
    admin_page: Any, three: list[Any], width: int, action: str
) -> None:
    admin_page.set_viewport_size({"width": width, "height": 800})
    admin_page.goto(f"{admin_page.base}{LIST}")
    admin_page.locator("input.action-select").first.check()
    admin_page.select_option("select[name=action]", action)
    admin_page.click("button[name=index]")
    admin_page.locator(".idem-question").wait_for()
    yes, no = admin_page.locator(".idem-buttons > *").all()
    assert yes.bounding_box()["height"] == no.bounding_box()["height"]
    back, padding = (
        "element => getComputedStyle(element)." + each for each in ("backgroundColor", "padding")
    )
    assert yes.evaluate(back) != no.evaluate(back)
    assert yes.evaluate(padding) == no.evaluate(padding)


def test_list_fits_a_laptop_and_shows_where_it_does_not_fit(admin_page: Any, three: list[Any]) -> None:
    IdempotencyRecordFactory(key="k" * 255, scope="s" * 255, path="/" + "p" * 255)
    hidden = "box => [box.scrollWidth > box.clientWidth, getComputedStyle(box).maskImage !== 'none']"
    for width, expected in ((1280, [False, False]), (400, [True, True])):
        admin_page.set_viewport_size({"width": width, "height": 800})
        admin_page.goto(f"{admin_page.base}{LIST}")
        assert admin_page.locator("#changelist-form .results").evaluate(hidden) == expected
