"""What people see of a refusal: words of theirs, a way on, and a page that never fails."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from django.db import OperationalError
from django.test import RequestFactory

from django_idempotency import exceptions
from django_idempotency.exceptions import FingerprintMismatch, IdempotencyError, InProgress, StoreUnavailable
from django_idempotency.refusals import refusal

pytestmark = pytest.mark.once

KINDS = [
    kind for kind in vars(exceptions).values() if isinstance(kind, type) and kind is not IdempotencyError
]


def page(error: IdempotencyError, **headers: str) -> str:
    request = RequestFactory().post("/order/", headers={"Accept": "text/html", **headers})
    response = refusal(request, error)
    assert response.headers["Content-Type"].startswith("text/html")
    return response.content.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_page_speaks_of_a_form_and_not_of_keys(kind: type[IdempotencyError]) -> None:
    said = page(kind())
    assert "form" in said.partition("<h1>")[2]
    assert "Idempotency-Key" not in said.partition("<h1>")[2].partition("</h1>")[0]
    assert f" {kind.code}</footer>" in said


@pytest.mark.parametrize("kind", KINDS)
def test_page_has_nothing_that_a_strict_policy_forbids(kind: type[IdempotencyError]) -> None:
    said = page(kind())
    assert '<link rel="stylesheet" href="/static/django_idempotency/refused.css">' in said
    assert re.findall(r"<style|<script|style=|\son\w+=", said) == []


def test_page_says_to_reload_only_where_that_helps() -> None:
    assert "Reload this page" in page(InProgress())
    assert "Reload this page" not in page(FingerprintMismatch())


def test_page_leads_back_to_the_form_on_this_site_only() -> None:
    own, foreign = "http://testserver/order/?step=2", "https://elsewhere.example/"
    assert f'<a href="{own}">' in page(FingerprintMismatch(), Referer=own)
    for referer in ({}, {"Referer": foreign}, {"Referer": "javascript:alert(1)"}):
        said = page(FingerprintMismatch(), **referer)
        assert "<a " not in said
        assert "go back, reload the form" in said


def asks_the_database(request: Any) -> dict[str, Any]:
    raise OperationalError("server closed the connection unexpectedly")


def test_page_whose_context_asks_a_store_that_is_down_gives_way_to_problem_details(settings: Any) -> None:
    templates = copy.deepcopy(settings.TEMPLATES)
    templates[0]["OPTIONS"]["context_processors"].append(f"{__name__}.asks_the_database")
    settings.TEMPLATES = templates
    response = refusal(RequestFactory().post("/order/", headers={"Accept": "text/html"}), StoreUnavailable())
    assert (response.status_code, response.headers["Content-Type"]) == (503, "application/problem+json")
    assert response.headers["Retry-After"]


@pytest.mark.parametrize(
    "broken",
    [
        {"STATIC_URL": None},
        {
            "STORAGES": {
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
            }
        },
    ],
)
def test_page_goes_without_its_stylesheet_where_static_files_are_not_set_up(
    settings: Any, broken: Any
) -> None:
    for name, value in broken.items():
        setattr(settings, name, value)
    said = page(FingerprintMismatch())
    assert "stylesheet" not in said
    assert "This form has been sent already" in said


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_cache_is_told_that_the_answer_depends_on_who_asks(accept: str) -> None:
    response = refusal(RequestFactory().post("/order/", headers={"Accept": accept}), StoreUnavailable())
    assert response.headers["Vary"] == "Accept"
