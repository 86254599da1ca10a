"""Operations of Django Ninja: guarded after authentication and throttles, answered by the API's own handlers."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client
from django.utils.functional import SimpleLazyObject
from ninja import NinjaAPI
from ninja.operation import Operation
from ninja.streaming import SSE
from ninja.testing import TestClient

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.contrib import ninja_urls
from tests.doors.conftest import MIDDLEWARE, replayed
from tests.factories import TokenFactory, WalletFactory
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.contrib.ninja_urls")]

CROWD = 32


@pytest.fixture(autouse=True)
def as_if_new() -> None:
    cache.clear()
    ninja_urls.REFUSED.clear()
    ninja_urls.anything.found = True


def send(path: str, payload: Any = None, key: str | None = "k", **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    headers |= {} if key is None else {"Idempotency-Key": key}
    return client.post(path, json.dumps(payload or {}), "application/json", headers=headers)


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


@pytest.fixture(params=["/ninja/orders", "/ninja/async-orders"])
def orders(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


@pytest.fixture
def token() -> dict[str, str]:
    return {"Authorization": f"Bearer {TokenFactory().key}"}


# What is stored


def test_retry_gets_the_bytes_that_ninja_made_of_the_result(orders: str, token: Any) -> None:
    first, retry = send(orders, {"amount": 3}, **token), send(orders, {"amount": 3}, **token)
    assert (first.status_code, first.json()["amount"], replayed(first)) == (201, 3, False)
    assert (retry.status_code, retry.content, replayed(retry)) == (201, first.content, True)
    assert bytes(record().response_body or b"") == first.content
    assert effects() == 1


def test_headers_of_the_response_argument_are_stored_and_cookies_are_not(token: Any) -> None:
    first, retry = send("/ninja/orders", **token), send("/ninja/orders", **token)
    assert first.headers["Location"] == retry.headers["Location"] == "/orders/1"
    assert (len(first.cookies), len(retry.cookies)) == (1, 0)


def test_without_a_key_ninja_answers_as_ever(token: Any) -> None:
    answers = [send("/ninja/async-orders", key=None, **token) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (effects(), IdempotencyRecord.objects.count()) == (2, 0)


def test_other_payload_is_refused(orders: str, token: Any) -> None:
    first, other = send(orders, {"amount": 1}, **token), send(orders, {"amount": 2}, **token)
    assert (other.status_code, other.json()["code"]) == (422, "fingerprint-mismatch")
    assert (send(orders, {"amount": 1}, **token).content, effects()) == (first.content, 1)


def test_payload_that_does_not_validate_is_answered_once(token: Any) -> None:
    answers = [send("/ninja/orders", {"amount": "many"}, **token) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[1].json()["detail"][0]["loc"] == ["body", "payload", "amount"]
    assert (replayed(answers[1]), effects()) == (True, 0)


@pytest.mark.parametrize("what", ["400", "404", "409", "missing"])
def test_raised_refusal_is_stored_without_its_writes(what: str, atomic_requests: bool) -> None:
    first, retry = send(f"/ninja/raise/{what}"), send(f"/ninja/raise/{what}")
    assert first.status_code == (404 if what == "missing" else int(what))
    assert (retry.status_code, retry.content, replayed(retry)) == (first.status_code, first.content, True)
    assert effects() == 0


@pytest.mark.parametrize("what", ["401", "403", "429", "500", "503"])
def test_raised_answer_that_is_not_stored_leaves_no_effect(what: str, atomic_requests: bool) -> None:
    assert [send(f"/ninja/raise/{what}").status_code for _ in range(2)] == [int(what)] * 2
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


def test_refusal_of_an_operation_inside_is_told_and_not_stored() -> None:
    inner = send("/ninja/raise/nested")
    assert (inner.status_code, inner.json()["code"]) == (400, "invalid-key")
    assert (send("/strict/raises").status_code, send("/strict/raises").status_code) == (418, 418)
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


@pytest.mark.parametrize("path", ["/ninja/act/crash", "/ninja/async-act/crash"])
def test_exception_is_django_s_500_and_leaves_no_effect(path: str) -> None:
    assert [send(path).status_code for _ in range(2)] == [500, 500]
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (0, 0)


def test_exception_under_debug_is_ninja_s_page_and_leaves_no_effect(settings: Any) -> None:
    settings.DEBUG = True
    answer = send("/ninja/act/crash")
    assert (answer.status_code, b"accident" in answer.content, effects()) == (500, True, 0)


@pytest.mark.parametrize("path", ["/ninja/act/201", "/ninja/async-act/201"])
def test_simultaneous_requests_have_one_effect(path: str, parallel: Parallel) -> None:
    answers = parallel.at_once(CROWD, lambda number: send(path))
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) <= {201, 409}
    assert sum(not replayed(answer) for answer in answers if answer.status_code == 201) == 1
    assert effects() == IdempotencyRecord.objects.completed().count() == 1


def test_undone_transaction_runs_again_on_a_fresh_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def twice() -> int:
        sizes.append(1)
        if len(sizes) == 1:
            error = OperationalError(1213, "deadlock")
            error.__cause__ = Deadlock()
            raise error
        return effect()

    monkeypatch.setattr(ninja_urls, "effect", twice)
    monkeypatch.setattr("django_idempotency.engine.is_repeatable", lambda error: "deadlock" in str(error))
    upload = {"file": SimpleUploadedFile("x.txt", b"12345")}
    answer = Client(headers={"Idempotency-Key": "k"}).post("/ninja/form", upload)
    assert (answer.json(), len(sizes), effects()) == ({"size": 5}, 2, 1)


class Deadlock(Exception):
    sqlstate = "40P01"


def test_form_without_a_key_runs_and_its_errors_are_ninja_s() -> None:
    upload = Client().post("/ninja/form", {"file": SimpleUploadedFile("x.txt", b"12345")})
    assert (upload.json(), Client().post("/ninja/form", {"no": "file"}).status_code) == ({"size": 5}, 422)
    assert (effects(), IdempotencyRecord.objects.count()) == (1, 0)


# Who may see it


def test_revoked_caller_gets_401_and_no_body(orders: str) -> None:
    token = TokenFactory()
    headers = {"Authorization": f"Bearer {token.key}"}
    first = send(orders, **headers)
    token.delete()
    retry = send(orders, **headers)
    assert (first.status_code, retry.status_code, retry.json()) == (201, 401, {"detail": "Unauthorized"})
    assert not replayed(retry)


def test_throttle_comes_before_a_replay() -> None:
    answers = [send("/ninja/seldom") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [replayed(answer) for answer in answers] == [False, True, False]


@pytest.mark.parametrize("path", ["/ninja/above", "/ninja/first/orders"])
@pytest.mark.parametrize("how", ["answer", "error"])
def test_decorator_above_is_asked_before_a_replay(path: str, how: str) -> None:
    first, retry = send(path), send(path)
    assert (first.json()["amount"], retry.content, replayed(retry)) == (1, first.content, True)
    ninja_urls.REFUSED.add(how)
    refused = send(path)
    assert (refused.status_code, refused.json()) == (403, {"detail": "refused"})
    assert (effects(), replayed(refused)) == (1, False)


@pytest.mark.parametrize("how", ["answer", "error"])
def test_decorator_above_that_refuses_the_first_run_stores_nothing(how: str) -> None:
    ninja_urls.REFUSED.add(how)
    assert send("/ninja/above").status_code == 403
    ninja_urls.REFUSED.clear()
    assert (send("/ninja/above").status_code, effects()) == (200, 1)


def test_key_of_another_customer_looks_unused(orders: str) -> None:
    tokens = [TokenFactory(), TokenFactory()]
    answers = [send(orders, Authorization=f"Bearer {token.key}") for token in tokens]
    assert ([replayed(answer) for answer in answers], effects()) == ([False, False], 2)
    scopes = set(IdempotencyRecord.objects.values_list("scope", flat=True))
    assert scopes == {f"user:{token.user.pk} {orders[1:]}" for token in tokens}


def test_one_router_at_two_places_has_two_scopes() -> None:
    answers = [send(f"/ninja/{place}/orders") for place in ("first", "second", "second")]
    assert [replayed(answer) for answer in answers] == [False, False, True]
    assert effects() == 2


def test_token_is_told_apart_by_its_digest_and_never_kept() -> None:
    answers = [send("/ninja/by-key", **{"X-API-Key": secret}) for secret in ("s3cret", "other", "s3cret")]
    assert [replayed(answer) for answer in answers] == [False, False, True]
    scopes = IdempotencyRecord.objects.values_list("scope", flat=True)
    assert all(re.fullmatch(r"auth:[0-9a-f]{32} ninja/by-key", scope) for scope in scopes)


def test_row_that_is_no_user_is_told_apart_by_its_primary_key() -> None:
    wallets = [WalletFactory(), WalletFactory()]
    for wallet in (*wallets, wallets[0]):
        ninja_urls.anything.found = wallet
        send("/ninja/anything")
    assert set(IdempotencyRecord.objects.values_list("scope", flat=True)) == {
        f"shop.wallet:{wallet.pk} ninja/anything" for wallet in wallets
    }


def test_mere_yes_of_an_authentication_tells_nothing() -> None:
    send("/ninja/anything")
    assert record().scope == "anonymous ninja/anything"


def test_anonymous_user_of_an_authentication_tells_nothing() -> None:
    ninja_urls.anything.found = SimpleLazyObject(AnonymousUser)
    send("/ninja/anything")
    assert record().scope == "anonymous ninja/anything"


@pytest.mark.parametrize("found", [object(), {"sub": object()}])
def test_what_cannot_tell_callers_apart_is_never_a_shared_scope(found: Any) -> None:
    ninja_urls.anything.found = found
    with pytest.raises(ImproperlyConfigured, match=r"scope=…"):
        Client(headers={"Idempotency-Key": "k"}).post("/ninja/anything")
    assert effects() == 0
    send("/ninja/anything", Authorization="Bearer x")
    assert record().scope.startswith("authorization:")


# Where it stands


@pytest.mark.parametrize("path", ["/ninja/stamped", "/ninja/stamped-below"])
def test_view_decorators_stay_around_guarded_operations(path: str) -> None:
    first, retry = send(path), send(path)
    assert (first.headers["X-Stamp"], retry.headers["X-Stamp"], replayed(retry)) == ("1", "1", True)
    assert (retry.content, effects()) == (first.content, 1)


def test_method_that_is_not_guarded_runs_each_time() -> None:
    client = Client(headers={"Idempotency-Key": "k"})
    assert client.put("/ninja/put").json() != client.put("/ninja/put").json()


def test_key_may_come_from_elsewhere() -> None:
    assert [send("/ninja/own-key?key=a", key=None).status_code for _ in range(2)] == [409, 409]
    assert (effects(), record().key) == (1, "a")


def test_missing_key_is_refused_after_authentication(token: Any) -> None:
    assert send("/ninja/orders", key=None).status_code == 401
    refused = send("/ninja/orders", key=None, **token)
    assert (refused.status_code, refused.json()["code"]) == (400, "missing-key")
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_api_s_own_handler_shapes_the_refusals_that_it_is_for() -> None:
    assert (send("/strict/orders", key=None).status_code, effects()) == (418, 0)
    assert send("/strict/orders", key="two words").json()["code"] == "invalid-key"


def test_operation_inside_a_guarded_view_has_no_record_of_its_own() -> None:
    first, retry = send("/outer/"), send("/outer/")
    assert (first.status_code, retry.content, replayed(retry)) == (201, first.content, True)
    assert record().scope == "anonymous outer/"


def test_requests_of_ninja_s_test_client_are_guarded() -> None:
    client = TestClient(ninja_urls.strict, headers={"IDEMPOTENCY-KEY": "k"})
    first, retry = client.post("/orders"), client.post("/orders")
    assert (first.status_code, retry.content, effects()) == (200, first.content, 1)


def test_misplaced_decorator_is_an_error_at_import() -> None:
    api = NinjaAPI(urls_namespace="misplaced")

    def view(request: HttpRequest) -> Any: ...

    with pytest.raises(TypeError, match=r"directly below @api\.post"):
        idempotent(api.post("/above")(lambda request: None))
    with pytest.raises(TypeError, match=r"directly below @api\.post"):
        idempotent(HttpRequest)
    with pytest.raises(TypeError, match="or a stream"):
        api.post("/stream", response=SSE[int])(idempotent(view))
    with pytest.raises(TypeError, match="give True or False"):
        idempotent(required=1)


def test_operation_of_another_package_is_an_error_at_import() -> None:
    def view(request: HttpRequest) -> Any: ...

    with pytest.raises(TypeError, match=r"cannot guard .*view: Foreign"):
        type("Foreign", (Operation,), {})("/", ["POST"], idempotent(view))


def test_function_that_is_no_operation_is_an_error_when_it_is_called() -> None:
    with pytest.raises(TypeError, match="no operation of Django Ninja"):
        idempotent(lambda request: None)(HttpRequest())


def test_decorator_without_wraps_is_an_error_when_it_is_called() -> None:
    api = NinjaAPI(urls_namespace="without-wraps")
    door = idempotent(lambda request: None)

    @api.post("/")
    def undressed(request: HttpRequest) -> Any:
        return door(request)

    with pytest.raises(TypeError, match=r"lacks functools\.wraps"):
        undressed(HttpRequest())


# The schema


def operation(path: str, method: str = "post", api: NinjaAPI = ninja_urls.api) -> Any:
    return json.loads(json.dumps(api.get_openapi_schema(path_prefix="")))["paths"][path][method]


def test_schema_has_the_header_and_the_refusals() -> None:
    described = operation("/orders")
    (header,) = described["parameters"]
    assert (header["in"], header["name"], header["required"]) == ("header", "Idempotency-Key", True)
    assert header["schema"] == {"type": "string", "minLength": 1, "maxLength": 255}
    assert list(described["responses"]) == ["201", "400", "409", "422"]
    assert described["responses"]["422"]["description"] == "Idempotency-Key is already used"
    assert list(described["responses"]["422"]["content"]) == ["application/problem+json"]


def test_schema_follows_the_settings(settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "HEADER": ["X-Key"],
        "KEY_MAX_LENGTH": 40,
        "REQUIRED": True,
        "ERROR_FORMAT": "json",
    }
    described = operation("/first/orders")
    (header,) = described["parameters"]
    assert (header["name"], header["required"], header["schema"]["maxLength"]) == ("X-Key", True, 40)
    assert "application/json" in described["responses"]["409"]["content"]
    assert [each["name"] for each in operation("/act/{act}")["parameters"]] == ["act", "X-Key"]


def test_schema_leaves_alone_what_is_not_guarded_or_described_already() -> None:
    assert operation("/put", "put") | {"parameters": [], "x-own": True} == operation("/put", "put")
    assert operation("/own-key")["parameters"] == []
    assert operation("/own-key")["responses"]["409"] == {"description": "Conflict"}


# Under the middleware


@pytest.fixture
def middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"]}


@pytest.mark.usefixtures("middleware")
@pytest.mark.parametrize(
    "path", ["/site/orders", "/site/log-in", "/site/router/orders", "/site/denied/?please"]
)
def test_middleware_stands_aside_for_operations_without_a_door(path: str) -> None:
    first, second = send(path), send(path)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() != second.json()
    assert IdempotencyRecord.objects.count() == 0


@pytest.mark.usefixtures("middleware")
def test_operation_with_a_door_is_guarded_under_the_middleware_as_without() -> None:
    assert send("/site/guarded").content == send("/site/guarded").content
    assert (replayed(send("/site/guarded")), effects()) == (True, 1)


@pytest.mark.usefixtures("middleware")
def test_check_names_the_operations_that_have_no_door() -> None:
    found = [message for message in run_checks() if message.id == "django_idempotency.E007"]
    named = [re.findall(r"/(\S+): .* guard (\w+)\(\)", message.msg)[0] for message in found]
    assert named == [
        ("site/orders", "unguarded"),
        ("site/router/orders", "unguarded_too"),
        ("site/denied/", "unguarded"),
    ]
    assert all("contrib.ninja.idempotent" in (message.hint or "") for message in found)


@pytest.mark.usefixtures("middleware")
def test_check_of_operations_waits_for_a_setting_to_be_corrected(settings: Any) -> None:
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"], "METHODS": "POST"}
    assert {message.id for message in run_checks()} >= {"django_idempotency.E002"}
