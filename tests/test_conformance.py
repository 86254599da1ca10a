"""The conformance suite: every door passes it, and wrong views fail the rows that they break."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path, reverse
from django.views.generic import RedirectView
from pytest_django.live_server_helper import LiveServer

from django_idempotency.conformance import CROWD, ROWS, run
from django_idempotency.endpoints import Endpoint
from tests.doors import urls as doors
from tests.views import effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes, pytest.mark.once]

MIDDLEWARE = [
    *(name for name in project.MIDDLEWARE if "Csrf" not in name),
    "django_idempotency.middleware.IdempotencyMiddleware",
]
STORE: dict[str, HttpResponse] = {}
ARRIVED: Counter[str] = Counter()
CROWDED = threading.Condition()
OUTSTANDING = "A request is outstanding for this Idempotency-Key"


def unguarded(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


def guarded(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse = doors.DOORS["function"](request, "201")
    return answer


def key_of(request: HttpRequest) -> str:
    return request.headers.get("Idempotency-Key", "")


def kept(request: HttpRequest, answer: HttpResponse) -> HttpResponse:
    """Keep an answer beside the database, by the key alone."""
    STORE[key_of(request)] = answer
    return answer


def remembered(request: HttpRequest) -> HttpResponse | None:
    found = STORE.get(key_of(request))
    return found and HttpResponse(found.content, status=201, headers={"Idempotent-Replayed": "true"})


def careless(request: HttpRequest) -> HttpResponse:
    """Take another payload for the same request."""
    return remembered(request) or kept(request, unguarded(request))


def racing(request: HttpRequest) -> HttpResponse:
    """Look, run, and only then keep the answer: who comes at the same moment runs too."""
    found = remembered(request)
    if not found:
        with CROWDED:
            ARRIVED[key_of(request)] += 1
            CROWDED.notify_all()
            CROWDED.wait_for(lambda: ARRIVED[key_of(request)] > 1, 0.1)
    return found or kept(request, unguarded(request))


def forgetful(request: HttpRequest) -> HttpResponse:
    """Let one request of several at once run and refuse the others, but keep no answer."""
    with CROWDED:
        ARRIVED[key_of(request)] += 1
        others = 1 < ARRIVED[key_of(request)] <= CROWD
    problem = {"type": "about:blank", "title": OUTSTANDING, "status": 409, "detail": "", "code": "conflict"}
    return JsonResponse(problem, status=409) if others else unguarded(request)


def refusing(request: HttpRequest) -> HttpResponse:
    """Let one run and refuse the others, as servers do where an operation takes its time."""
    answer = forgetful(request)
    return answer if answer.status_code == 409 else guarded(request)


def constant(request: HttpRequest) -> HttpResponse:
    """Take every request for the same, whatever its key."""
    return HttpResponse(b"{}", status=201, headers={"Idempotent-Replayed": "true"})


def unquoting(request: HttpRequest) -> HttpResponse:
    """Refuse the form that the draft asks for."""
    return HttpResponse(status=400) if key_of(request).startswith('"') else guarded(request)


def poisoned(request: HttpRequest) -> HttpResponse:
    """Refuse another payload, and forget the first answer over it."""
    if key_of(request) in STORE:
        return unguarded(request)
    answer = guarded(request)
    return kept(request, answer) if answer.status_code == 422 else answer


def unsafe(request: HttpRequest) -> HttpResponse:
    """Replay to GET as well."""
    if request.method == "GET":
        return remembered(request) or HttpResponse()
    return kept(request, guarded(request))


def fragile(request: HttpRequest) -> HttpResponse:
    """Fall over a malformed key."""
    return HttpResponse(status=500) if key_of(request) in ('""', '"abc') else guarded(request)


NOT_GUARDED = "guard the view"
#: What each wrong view is there to fail, and in which words.
WRONG: dict[Callable[[HttpRequest], HttpResponse], dict[str, str]] = {
    unguarded: {
        **dict.fromkeys(("I1-bare", "I2", "I9-I10", "I12-link", "I13-link", "I16"), NOT_GUARDED),
        "I11": "a concurrent retry got 201 and other bytes",
        "I12": "got 201 instead of 400",
        "I14": "compare the payload",
    },
    careless: {"I2": "got 201 instead of 422", "I14": "compare the payload"},
    racing: {"I11": "a concurrent retry got 201 and other bytes"},
    forgetful: {"I11": "the retry after them got 201 and other bytes"},
    constant: {"I3": "a key that was never used got a replay"},
    unquoting: {"I1": "the first request got 400"},
    poisoned: {"I14": "the retry after another payload got 201 and other bytes"},
    unsafe: {"methods": "take GET out"},
    fragile: {"I12-link": "got 500 without problem details", "I16": "got 500 instead of 400"},
}
#: Those that are right otherwise.
ALL_OF_IT = (unguarded, poisoned, unsafe, fragile)

urlpatterns = [
    *doors.urlpatterns,
    path("fragile", RedirectView.as_view(url="/fragile/", permanent=True)),
    *(path(f"{view.__name__}/", view, name=view.__name__) for view in [*WRONG, refusing]),
]


@pytest.fixture(scope="module")
def served(django_db_setup: None) -> Iterator[str]:
    """Serve under the settings of these tests: the session's live server has loaded its middleware by now."""
    own = {"MIDDLEWARE_PATHS": ["/site"], "DOCUMENTATION_URL": "https://api.example.com/keys"}
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, IDEMPOTENCY=own):
        server = LiveServer("localhost")
        yield server.url
        server.stop()


@pytest.fixture
def base(served: str) -> str:
    STORE.clear()
    ARRIVED.clear()
    return served


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


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_view_fails_its_rows_and_is_told_why(
    base: str, wrong: Callable[[HttpRequest], HttpResponse]
) -> None:
    results = run(Endpoint(base + reverse(wrong.__name__), required=wrong is unguarded))
    reasons = {result.row.id: result.reason for result in results if result.outcome == "fail"}
    assert [reason for row, reason in WRONG[wrong].items() if reason not in reasons.get(row, "")] == []
    assert wrong not in ALL_OF_IT or reasons.keys() == WRONG[wrong].keys()


def test_every_row_is_seen_to_fail() -> None:
    assert {row for rows in WRONG.values() for row in rows} == {row.id for row in ROWS} - {"I4", "I7"}


@pytest.mark.parametrize(
    ("name", "seen"),
    [("refusing", r"7 of 8 at once got 409"), ("function", r"(\d|none) of 8 at once .*409.*")],
)
def test_what_concurrent_retries_got_is_told(base: str, name: str, seen: str) -> None:
    url = base + (reverse(name) if name == "refusing" else reverse(name, args=["201"]))
    (found,) = [each for each in run(Endpoint(url)) if each.row.id == "I11"]
    assert found.outcome == "pass"
    assert re.fullmatch(seen, found.reason)


def test_headers_of_other_names(base: str) -> None:
    own = {**project.IDEMPOTENCY, "HEADER": ["X-Key"], "REPLAY_HEADER": "X-Again"}
    with override_settings(IDEMPOTENCY=own):
        url = base + reverse("function", args=["201"])
        assert failed(Endpoint(url, key_header="X-Key", replayed_header="X-Again")) == set()
        assert failed(Endpoint(url, key_header="X-Key")) == {"I1-bare", "I9-I10", "I11", "I14"}
        assert "I9-I10" in failed(Endpoint(url, replayed_header="X-Again"))


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


def test_timeout_is_told() -> None:
    """Nobody answers: the kernel takes connections that no process accepts."""
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        pytest.raises(CommandError, match=r"timed out.*--timeout long enough"),
    ):
        command(f"http://127.0.0.1:{deaf.getsockname()[1]}/", "--timeout", "0.1")


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
        ["http://x/", "--timeout", "0"],
        ["http://x/", "--timeout", "1e300"],
        ["http://x/", "--key-header", "two words"],
        ["http://x/", "--replayed-header", ""],
    ],
)
def test_bad_argument_is_told(arguments: list[str]) -> None:
    with pytest.raises(
        CommandError, match=r"no URL|not JSON|a header looks like|seconds|no name of a header"
    ):
        command(*arguments)
