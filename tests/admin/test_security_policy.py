"""A strict Content-Security-Policy takes nothing away from our pages."""

from __future__ import annotations

import re
from typing import Any

import django
import pytest
from django.contrib.staticfiles import finders
from django.template.loader import get_template
from django.test import Client

from tests.admin.pages import choose, page, url_of
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db

INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", re.IGNORECASE)
TEMPLATES = [
    "admin/django_idempotency/idempotencyrecord/change_list.html",
    "admin/django_idempotency/idempotencyrecord/confirm.html",
    "django_idempotency/admin/panel.html",
    "django_idempotency/admin/chart.html",
]


def test_pages_have_nothing_inline_and_load_our_style_sheet(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(completed=True)
    pages = [page(admin_client), page(admin_client, url_of(record))]
    pages.append(choose(admin_client, "expire_now", record).content.decode())
    for html in pages:
        assert "/static/django_idempotency/admin.css" in html
        assert not INLINE.search(html), INLINE.search(html)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_bring_no_script_and_no_inline_style(name: str) -> None:
    source: Any = get_template(name)
    assert not re.search("<script|<style| style=", source.template.source)


def test_style_sheet_is_found_and_takes_nothing_from_elsewhere() -> None:
    path = finders.find("django_idempotency/admin.css")
    assert isinstance(path, str)
    with open(path, encoding="utf-8") as file:
        assert not re.search(r"url\(|@import|//", file.read())


if django.VERSION >= (6, 0):

    def test_django_s_own_policy_is_sent_with_every_page(admin_client: Client, settings: Any) -> None:
        strict = {"default-src": ["'self'"], "base-uri": ["'none'"], "object-src": ["'none'"]}
        settings.SECURE_CSP = strict
        settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
        record = IdempotencyRecordFactory(completed=True)
        expected = "base-uri 'none'; default-src 'self'; object-src 'none'"
        for url in ("/admin/django_idempotency/idempotencyrecord/", url_of(record)):
            response = admin_client.get(url)
            policy = sorted(response["Content-Security-Policy"].split("; "))
            assert "; ".join(policy) == expected
            assert not INLINE.search(response.content.decode())
        body = admin_client.get(url_of(record, "stored", "body"))
        assert body["Content-Security-Policy"] == "default-src 'none'; sandbox"
