"""The browsable API of views that ask for a key: its forms have one, and programs are asked as before."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape
from typing import Any

import pytest
from django.test import Client

from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.factories import UserFactory
from tests.test_docs import TOP
from tests.views import effects

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.page_urls")]


@pytest.fixture(autouse=True)
def required(settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUIRED": True}


class Person:
    """Somebody with a browser, who submits what stands in the form of a page."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.client.force_login(UserFactory())

    def page(self, path: str = "/products/") -> Any:
        return self.client.get(path, headers={"Accept": "text/html"})

    def submit(self, page: Any, name: str = "Teapot", path: str = "/products/", **headers: str) -> Any:
        filled = {**hidden(page), "name": name, "price": "1.00", "stock": "1"}
        return self.client.post(path, filled, headers={"Accept": "text/html", **headers})


def hidden(page: Any) -> dict[str, str]:
    form = page.content.decode().partition('id="post-object-form"')[2].partition("</form>")[0]
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', form)
    return {name: unescape(value) for name, value in found}


def script(page: Any) -> Any:
    found = re.search(
        r'<script id="idempotency" type="application/json">(.*?)</script>', page.content.decode()
    )
    return json.loads(found[1]) if found else None


def state(page: Any) -> str:
    found = re.search(r'id="idempotency-state">(.*?)</p>', page.content.decode(), re.DOTALL)
    return " ".join(re.sub("<[^>]+>", "", found[1]).split()) if found else ""


@pytest.fixture
def person() -> Person:
    return Person()


def key(page: Any) -> str:
    return hidden(page)["idempotency_key"]


@pytest.mark.parametrize("path", ["/products/", "/decorated/"])
def test_form_is_not_locked_out_and_a_second_click_has_no_effect(person: Person, path: str) -> None:
    page = person.page(path)
    first, second = person.submit(page, path=path), person.submit(page, path=path)
    assert (first.status_code, second.status_code, effects()) == (201, 201, 1)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.content == first.content
    assert state(first) == f"Idempotency-Key: {key(page)} · answered"


def test_each_page_has_a_key_of_its_own(person: Person) -> None:
    first = person.submit(person.page())
    assert key(first) not in {"", IdempotencyRecord.objects.get().key}
    assert person.submit(first).status_code == 201
    assert effects() == 2
    assert state(person.page()) == ""


def test_corrected_form_is_a_new_action(person: Person) -> None:
    wrong = person.submit(person.page(), name="")
    assert (wrong.status_code, effects()) == (400, 0)
    assert person.submit(wrong).status_code == 201


def test_changed_entry_on_the_old_page_is_refused_and_the_next_page_accepts_it(person: Person) -> None:
    page = person.page()
    person.submit(page)
    refused = person.submit(page, name="Kettle")
    assert (refused.status_code, effects()) == (422, 1)
    assert state(refused) == f"Idempotency-Key: {key(page)} · fingerprint-mismatch"
    assert person.submit(refused, name="Kettle").status_code == 201


def test_page_of_an_unknown_outcome_keeps_the_key(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any, **kwargs: Any) -> None:
        raise StoreUnavailable

    page = person.page()
    with monkeypatch.context() as patch:
        patch.setattr("django_idempotency.rest_framework.guard.execute", gone)
        refused = person.submit(page)
    assert (refused.status_code, state(refused).rpartition(" ")[2]) == (503, "store-unavailable")
    assert key(refused) == key(page)
    assert person.submit(refused).status_code == 201


def test_script_gets_the_key_for_what_it_sends(person: Person) -> None:
    page = person.page()
    assert script(page) == {"header": "Idempotency-Key", "key": key(page), "methods": ["POST", "PATCH"]}
    assert "/django_idempotency/browsable.js" in page.content.decode()


@pytest.mark.parametrize("path", ["/unguarded/", "/exempt/"])
def test_form_of_an_unguarded_handler_is_as_it_was(person: Person, path: str) -> None:
    page = person.page(path)
    assert hidden(page).keys() == {"csrfmiddlewaretoken"}
    assert "POST" not in script(page)["methods"]
    answer = person.submit(page, path=path)
    assert (answer.status_code, state(answer)) == (201, "")


def test_decorated_function_shows_the_key_of_the_header() -> None:
    client = Client(headers={"Accept": "text/html", "Idempotency-Key": "k"})
    client.force_login(UserFactory())
    first, second = (client.post("/function/") for _ in range(2))
    assert (first.status_code, state(first)) == (201, "Idempotency-Key: k · answered")
    assert (second.content, effects()) == (first.content, 1)
    assert script(first)["methods"] == ["POST"]


def test_field_goes_before_the_header_that_a_browser_adds_to_each_click(person: Person) -> None:
    page = person.page()
    answers = [person.submit(page, **{"Idempotency-Key": f"browser-{number}"}) for number in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (effects(), IdempotencyRecord.objects.get().key) == (1, key(page))


@pytest.mark.parametrize(
    "media_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
)
def test_form_that_the_view_takes_for_a_row_of_bytes_is_left_to_it(media_type: str) -> None:
    headers = {"Accept": "text/html", "Idempotency-Key": "k"}
    answers = [Client(headers=headers).post("/raw/", b"--b--\r\n", media_type) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert effects() == 1


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_program_without_the_header_is_refused_whatever_its_body_says(
    person: Person, media_type: str
) -> None:
    fields = {"idempotency_key": "k", "name": "Teapot", "price": "1.00", "stock": "1"}
    client = Client(headers={"Accept": "application/json"})
    client.cookies = person.client.cookies
    if media_type == "multipart/form-data":
        answer = client.post("/products/", fields)
    else:
        body = (
            json.dumps(fields)
            if media_type.endswith("json")
            else "&".join(f"{n}={v}" for n, v in fields.items())
        )
        answer = client.post("/products/", body, media_type)
    assert (answer.status_code, answer.json()["code"]) == (400, "missing-key")
    assert Product.objects.count() == 0


def test_page_without_a_key_says_so_and_nothing_runs(person: Person) -> None:
    page = person.page()
    filled = {**hidden(page), "idempotency_key": "", "name": "Teapot", "price": "1.00"}
    answer = person.client.post("/products/", filled, headers={"Accept": "text/html"})
    assert (answer.status_code, effects()) == (400, 0)
    assert state(answer) == "Idempotency-Key: – · missing-key"


def test_strict_keys_are_quoted(person: Person, settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUIRED": True, "KEY_FORMAT": "strict"}
    page = person.page()
    assert person.submit(page).status_code == person.submit(page).status_code == 201
    assert effects() == 1
    assert key(page) == f'"{IdempotencyRecord.objects.get().key}"'


def test_key_that_is_shown_is_text(person: Person) -> None:
    headers = {"Accept": "text/html", "Idempotency-Key": "<script>1</script>é"}
    answer = person.client.post(
        "/products/", {**hidden(person.page()), "idempotency_key": ""}, headers=headers
    )
    assert answer.status_code == 400
    assert "<script>1" not in answer.content.decode()
    assert state(answer).endswith("· invalid-key")


@pytest.mark.once
@pytest.mark.parametrize(
    "first",
    [
        "rest_framework.views",
        "rest_framework.renderers",
        "django_idempotency.rest_framework",
        "django_idempotency.rest_framework.renderers",
    ],
)
def test_renderer_of_all_views_can_be_loaded_from_anywhere(first: str) -> None:
    """DRF loads DEFAULT_RENDERER_CLASSES in the middle of its own imports."""
    shown = "django.setup(); import {0}; from rest_framework.views import APIView; print(APIView.renderer_classes[1])"
    command = [sys.executable, "-c", f"import django; {shown.format(first)}"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    out = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True, check=True)
    assert "django_idempotency.rest_framework.renderers.BrowsableAPIRenderer" in out.stdout
