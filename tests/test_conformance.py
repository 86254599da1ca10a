"""The conformance suite: every door passes it, and wrong views fail the rows that they break."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path, reverse
from django.views.generic import RedirectView
from pytest_django.live_server_helper import LiveServer

from django_idempotency.conformance import ROWS, run
from django_idempotency.endpoints import Endpoint
from tests.doors import urls as doors
from tests.views import effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes, pytest.mark.once]

MIDDLEWARE = [
    *(name for name in project.MIDDLEWARE if "Csrf" not in name),
    "django_idempotency.middleware.IdempotencyMiddleware",
]
STORE: dict[str, HttpResponse] = {}


def unguarded(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


def careless(request: HttpRequest) -> HttpResponse:
    """Replay by the key alone."""
    key = request.headers["Idempotency-Key"]
    if key in STORE:
        return HttpResponse(STORE[key].content, status=201, headers={"Idempotent-Replayed": "true"})
    STORE[key] = unguarded(request)
    return STORE[key]


def fragile(request: HttpRequest) -> HttpResponse:
    """Fall over a malformed key."""
    key = request.headers["Idempotency-Key"]
    return HttpResponse(status=500) if key in ('""', '"abc') else doors.DOORS["function"](request, "201")


urlpatterns = [
    *doors.urlpatterns,
    path("unguarded/", unguarded, name="unguarded"),
    path("careless/", careless, name="careless"),
    path("fragile", RedirectView.as_view(url="/fragile/", permanent=True)),
    path("fragile/", fragile, name="fragile"),
]


@pytest.fixture
def configured() -> Iterator[None]:
    own = {"MIDDLEWARE_PATHS": ["/site"], "DOCUMENTATION_URL": "https://api.example.com/keys"}
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, IDEMPOTENCY=own):
        yield


@pytest.fixture
def base(configured: None) -> Iterator[str]:
    """Serve under the settings of these tests: the session's live server has loaded its middleware by now."""
    STORE.clear()
    server = LiveServer("localhost")
    yield server.url
    server.stop()


def failed(endpoint: Endpoint) -> set[str]:
    return {result.row.id for result in run(endpoint) if result.outcome == "fail"}


@pytest.mark.parametrize("name", [*doors.DOORS, *doors.UNDER_MIDDLEWARE])
def test_every_door_passes_every_row(base: str, name: str) -> None:
    act = "create" if name in ("mixin", "site-mixin") else "201"
    results = run(Endpoint(base + reverse(name, args=[act])))
    assert [(each.row.id, each.reason) for each in results if each.outcome == "fail"] == []
    left_out = {each.row.id for each in results if each.outcome == "not applicable"}
    assert left_out == {"I4", "I7", "I12"}


@pytest.mark.parametrize("required", [True, False])
def test_missing_key_is_told_where_one_is_required(base: str, required: bool) -> None:
    own = {**project.IDEMPOTENCY, "REQUIRED": required}
    with override_settings(IDEMPOTENCY=own):
        found = failed(Endpoint(base + reverse("function", args=["201"]), required=True))
    assert found == (set() if required else {"I12"})


def test_redirect_is_no_success(base: str) -> None:
    (first, *_) = run(Endpoint(base + reverse("fragile").rstrip("/")))
    assert (first.outcome, "give that URL" in first.reason) == ("fail", True)


def test_strict_form_passes_too(base: str) -> None:
    with override_settings(IDEMPOTENCY={**project.IDEMPOTENCY, "KEY_FORMAT": "strict"}):
        assert failed(Endpoint(base + reverse("function", args=["201"]))) == set()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "unguarded",
            {"I1-bare", "I2", "I9-I10", "I11", "I12-link", "I13-link", "I14", "I16"},
        ),
        ("fragile", {"I12-link", "I16"}),
    ],
)
def test_wrong_view_fails_its_rows(base: str, name: str, rows: set[str]) -> None:
    assert failed(Endpoint(base + reverse(name))) == rows


def test_replay_without_fingerprint_fails_its_rows(base: str) -> None:
    assert failed(Endpoint(base + reverse("careless"))) >= {"I2", "I13-link", "I14", "I16"}


# The command


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("idempotency_conformance", *arguments, stdout=out)
    return out.getvalue()


def test_command_prints_one_line_a_row(base: str) -> None:
    lines = command(base + reverse("function", args=["201"])).splitlines()
    assert [line.split()[0] for line in lines] == [row.id for row in ROWS]


def test_command_prints_json_and_ends_with_1_on_a_failure(base: str) -> None:
    out = io.StringIO()
    with pytest.raises(CommandError, match="rows failed") as caught:
        call_command("idempotency_conformance", base + reverse("unguarded"), "--format", "json", stdout=out)
    assert caught.value.returncode == 1
    outcomes = {row["id"]: row["outcome"] for row in json.loads(out.getvalue())}
    assert (outcomes["I1"], outcomes["I2"], outcomes["I4"]) == ("pass", "fail", "not applicable")


def test_unreachable_url_is_told() -> None:
    with pytest.raises(CommandError, match=r"gave no answer.*is the server running"):
        command("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://x/"],
        ["http://x:port/"],
        ["http://x/", "--body", "{"],
        ["http://x/", "--header", "nothing"],
    ],
)
def test_bad_argument_is_told(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"no URL|not JSON|a header looks like"):
        command(*arguments)
