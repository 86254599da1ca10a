"""axe-core finds no serious fault in what this package shows, in the light and in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import LIST, url_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
DJANGOS_OWN = ["#searchbar"]  # its label is the title of an image


def faults(page: Page, *, only: str = "html") -> list[str]:
    """Return what axe-core calls serious or critical, with the first place of each."""
    page.wait_for_load_state()
    page.evaluate(AXE)
    found = page.evaluate("([only, not]) => axe.run({include: [only], exclude: not})", [only, DJANGOS_OWN])
    assert found["passes"], "axe-core looked at nothing"
    serious = [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:160]}" for fault in serious]


def ask(page: Any, action: str) -> None:
    """Choose all records and an action, and wait to be asked."""
    page.goto(f"{page.base}{LIST}")
    page.locator("#action-toggle").check()
    page.select_option("select[name=action]", action)
    page.click("button[name=index]")
    expect(page.get_by_role("button", name="Yes, I’m sure")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_admin(admin_page: Any, three: list[IdempotencyRecord], scheme: Any) -> None:
    admin_page.emulate_media(color_scheme=scheme)
    admin_page.goto(f"{admin_page.base}{LIST}")
    for chart in admin_page.locator(".idem-chart summary").all():
        chart.click()
    found = {"list": faults(admin_page)}
    admin_page.goto(f"{admin_page.base}{url_of(three[0])}")
    found["record"] = faults(admin_page)
    for action in ("expire_now", "delete_records"):
        ask(admin_page, action)
        found[action] = faults(admin_page)
    assert not any(found.values()), found


@pytest.mark.urls("tests.browser.urls")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_a_refused_form(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto("/decorated/own-url/page/")
    page.get_by_label("Name").fill("Teapot")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading")).to_contain_text("Order ")
    page.go_back(wait_until="commit")
    page.get_by_label("Name").fill("Kettle")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading")).to_have_text("This form has been sent already")
    assert faults(page) == []
