"""A real browser and a real server.

``live_server`` is new for each test, with ``IdempotencyMiddleware`` on ``/site/``; ``page`` is a page of Chromium, with
JavaScript unless the test asks for none: ``@pytest.mark.parametrize("page", [False], indirect=True)``. It keeps pages
for the back button as people's browsers do, so go back with ``page.go_back(wait_until="commit")``: nothing is loaded.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from django_idempotency.models import IdempotencyRecord
from tests.browser.views import PAUSE
from tests.doors.conftest import MIDDLEWARE
from tests.factories import IdempotencyRecordFactory, UserFactory

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, so that it can be run, and left out, as a whole."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")


@pytest.fixture
def live_server(settings: Any, transactional_db: None) -> Iterator[LiveServer]:
    watched = ["tests.browser.views.count_arrivals", "tests.browser.views.strict_csp"]
    settings.MIDDLEWARE = [*watched, *settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"]}
    PAUSE.reset()
    server = LiveServer("localhost")
    yield server
    PAUSE.end()
    server.stop()
    for thread in threading.enumerate():  # each has a connection, and a database in use cannot be dropped
        if "process_request_thread" in thread.name:
            thread.join(SECONDS)


@pytest.fixture
def page(
    request: pytest.FixtureRequest, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    # Playwright runs an event loop on this thread, and Django would not let a test ask the database beside it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, ignore_default_args=["--disable-back-forward-cache"]
        )
        context = browser.new_context(
            base_url=live_server.url, java_script_enabled=getattr(request, "param", True)
        )
        context.set_default_timeout(SECONDS * 1000)
        yield context.new_page()
        context.close()
        browser.close()
        connections.close_all()  # what is opened beside an event loop is not seen after its end


@pytest.fixture
def complaints(page: Any) -> list[str]:
    """Collect what the browser complains of: a script's error, or what a policy forbids."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.fixture
def admin_page(page: Any, live_server: Any, settings: Any, complaints: list[str]) -> Iterator[Any]:
    """Yield a page that a superuser is logged in on; whatever the browser complained of fails the test."""
    if django.VERSION >= (6, 0):
        settings.SECURE_CSP = {"default-src": ["'self'"], "object-src": ["'none'"]}
        settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
    client = Client()
    client.force_login(UserFactory(username="operator", is_staff=True, is_superuser=True))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
    page.context.add_cookies([cookie])
    page.base = live_server.url
    yield page
    assert [each for each in complaints if "favicon" not in each and "404" not in each] == []


@pytest.fixture
def three() -> list[IdempotencyRecord]:
    """Return a completed record, one that expires soon, and one that has expired."""
    soon = timezone.now() + timedelta(minutes=30)
    return [
        IdempotencyRecordFactory(key="order-late", completed=True),
        IdempotencyRecordFactory(key="order-soon", completed=True, expires_at=soon),
        IdempotencyRecordFactory(key="order-old", completed=True, expired=True),
    ]
