"""Every door with one face: send a request, and see how many effects there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as project
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse

from tests.conftest import Parallel
from tests.doors.live import Pause
from tests.doors.urls import DOORS, UNDER_MIDDLEWARE

collect_ignore = [] if django.VERSION >= (6, 0) else ["test_background.py"]

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


class Door:
    """One view, behind one door."""

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, act: str = "201", key: str | None = "k", payload: Any = None, **options: Any) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        client = Client(raise_request_exception=False)
        body = json.dumps({"amount": 1} if payload is None else payload)
        path = reverse(self.name, args=[act])
        return client.post(path, body, "application/json", headers=headers, **options)


@pytest.fixture
def doors() -> Iterator[None]:
    with override_settings(
        ROOT_URLCONF="tests.doors.urls",
        MIDDLEWARE=[*project.MIDDLEWARE, MIDDLEWARE],
        IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/site"]},
    ):
        yield


@pytest.fixture(params=[*DOORS, *UNDER_MIDDLEWARE])
def door(request: pytest.FixtureRequest, doors: None) -> Door:
    return Door(request.param)


def replayed(response: HttpResponse) -> bool:
    return response.headers.get("Idempotent-Replayed") == "true"


@pytest.fixture
def pause(parallel: Parallel, tmp_path: Path) -> Iterator[Pause]:
    """Give an accident ``pause``; whoever still stands there at the end of the test may go on."""
    waiting = Pause(tmp_path / "pause")
    yield waiting
    waiting.file.unlink(missing_ok=True)
