"""The DRF door over HTTP: invariants I1, I2 and I4 to I11, with ATOMIC_REQUESTS off and on."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, OperationalError, connection, transaction
from django.http import HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient

from django_idempotency.core.operations import operation_id
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework.hooks import IdempotencyHooks
from django_idempotency.rest_framework.mixins import IdempotencyMixin
from example_project.shop.models import Order, Receipt, Wallet
from tests.factories import ProductFactory, TokenFactory, WalletFactory
from tests.views import OwnedView, ProbeView, UploadView, effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("atomic_requests")]


def send(
    act: str = "create", key: str | None = "k", method: str = "post", body: Any = None, **options: Any
) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    client = Client(raise_request_exception=False, headers=headers)
    data = json.dumps({"a": 1} if body is None else body)
    return getattr(client, method)(f"/probe/{act}/", data, content_type="application/json", **options)


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def test_retry_gets_status_body_and_allowed_headers_of_the_first_answer() -> None:
    first, retry = send(), send()
    assert (first.status_code, effects()) == (201, 1)
    assert "Idempotent-Replayed" not in first.headers
    assert (retry.status_code, retry.content, retry.headers["Content-Type"]) == (
        first.status_code,
        first.content,
        first.headers["Content-Type"],
    )
    assert retry.headers["Idempotent-Replayed"] == "true"


def test_patch_is_guarded_and_safe_or_idempotent_methods_ignore_the_key() -> None:
    assert send(method="patch").content == send(method="patch").content
    for method in ("put", "delete"):
        assert send(method=method).content != send(method=method).content
    assert Client().get("/probe/create/", headers={"Idempotency-Key": "k"}).json() == {"effects": 5}
    assert IdempotencyRecord.objects.count() == 1


def test_without_a_key_every_request_runs() -> None:
    assert send(key=None).content != send(key=None).content
    assert IdempotencyRecord.objects.count() == 0


@pytest.mark.parametrize("act", ["200", "202", "302", "400", "404", "409", "422"])
def test_returned_answer_below_500_is_stored_with_its_effect(act: str) -> None:
    first, retry = send(act), send(act)
    assert (first.status_code, retry.status_code) == (int(act), int(act))
    assert (retry.content, effects()) == (first.content, 1)


@pytest.mark.parametrize(
    "act", ["401", "403", "408", "425", "429", "500", "503", "crash", "denied", "throttled"]
)
def test_answer_that_is_not_stored_leaves_no_effect_and_runs_again(act: str) -> None:
    for _ in range(2):
        response = send(act)
        assert response.status_code >= 401
        assert "Idempotent-Replayed" not in response.headers
    assert effects() == 0
    assert not IdempotencyRecord.objects.completed().exists()


@pytest.mark.parametrize(("act", "status"), [("invalid", 400), ("missing", 404)])
def test_raised_refusal_is_stored_without_the_views_writes(act: str, status: int) -> None:
    first, retry = send(act), send(act)
    assert (first.status_code, retry.status_code, retry.content) == (status, status, first.content)
    assert retry.headers["Idempotent-Replayed"] == "true"
    assert effects() == 0


def test_success_after_a_swallowed_database_error_is_a_500_that_can_be_retried() -> None:
    assert send("swallow").status_code == 500
    assert effects() == 0


def test_view_that_returns_nothing_is_a_500() -> None:
    assert send("nothing").status_code == 500
    assert effects() == 0


def test_other_payload_is_refused_and_the_record_untouched() -> None:
    send()
    before = IdempotencyRecord.objects.values().get()
    response = send(body={"a": 2})
    assert (response.status_code, response.json()["code"]) == (422, "fingerprint-mismatch")
    assert (IdempotencyRecord.objects.values().get(), effects()) == (before, 1)


@pytest.mark.parametrize("body", ['{ "b": [1, 2], "a": "\\u0041" }', '{"a":"A","b":[1,2]}'])
def test_json_counts_by_its_meaning(body: str) -> None:
    send(body={"a": "A", "b": [1, 2]})
    headers = {"Idempotency-Key": "k"}
    retry = Client(headers=headers).post("/probe/create/", body, content_type="application/json")
    assert retry.headers["Idempotent-Replayed"] == "true"


def test_other_method_path_or_query_is_another_request() -> None:
    send()
    assert send(method="patch").status_code == 422
    assert send(query_params={"x": "1"}).status_code == 422
    assert send("200").status_code == 422  # same route, other path


@pytest.mark.parametrize(
    "key", ["", " ", '""', "two words", "ключ", "k" * 256, "a,b", '"open', "tab\tin", "a\x7f"]
)
def test_malformed_key_is_refused_before_any_look_up(key: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        response = send(key=key.encode().decode("latin-1"))
    assert not [query for query in queries if "django_idempotency" in query["sql"]]
    assert (response.status_code, response.json()["code"]) == (400, "invalid-key")
    assert (effects(), IdempotencyRecord.objects.count()) == (0, 0)


@pytest.mark.parametrize("sent", ['"k"', "k, k", 'k,"k"', '"k";v=1', " k "])
def test_spellings_of_one_key_are_one_key(sent: str) -> None:
    send()
    assert send(key=sent).headers["Idempotent-Replayed"] == "true"


def test_required_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProbeView, "idempotency_required", True)
    response = send(key=None)
    assert (response.status_code, response.json()["code"], effects()) == (400, "missing-key", 0)
    with override_settings(IDEMPOTENCY={"REQUIRED": True}):
        monkeypatch.setattr(ProbeView, "idempotency_required", False)
        assert send(key=None).status_code == 201


@override_settings(IDEMPOTENCY={"DOCUMENTATION_URL": "https://example.com/idempotency"})
def test_problem_details() -> None:
    send()
    response = send(body={"a": 2})
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Link"] == '<https://example.com/idempotency>; rel="describedby"'
    assert (response.headers["x-should-retry"], response.headers["stripe-should-retry"]) == ("false", "false")
    assert response.json() == {
        "type": "https://example.com/idempotency",
        "title": "Idempotency-Key is already used",
        "status": 422,
        "detail": "This key was used for a different request: send a new key for a new action.",
        "code": "fingerprint-mismatch",
    }


@override_settings(IDEMPOTENCY={"ERROR_FORMAT": "json", "RETRY_HINTS": False})
def test_problem_as_plain_json_without_hints() -> None:
    response = send(key="two words")
    assert response.headers["Content-Type"] == "application/json"
    assert "x-should-retry" not in response.headers


def own_handler(exception: Any, context: Any) -> HttpResponse:
    """Shape every error alike, with no DRF response at all."""
    return HttpResponse(exception.get_codes(), status=exception.status_code, content_type="text/plain")


def test_projects_own_exception_handler_shapes_refusals_and_keeps_their_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ProbeView, "get_exception_handler", lambda self: own_handler)
    with failing(DatabaseError("broken")):
        response = send()
    assert (response.status_code, response.content) == (503, b"store-unavailable")
    assert response.headers["Content-Type"] == "text/plain"
    assert (response.headers["Retry-After"], response.headers["x-should-retry"]) == ("1", "true")


def failing(error: Exception) -> Any:
    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "django_idempotency" in sql:
            raise error
        return execute(sql, params, many, context)

    return connection.execute_wrapper(wrapper)


def test_unreachable_store_is_503_and_nothing_runs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with failing(DatabaseError("broken")):
        response = send(key="secret-key", body={"password": "hunter2"})
    assert (response.status_code, response.json()["code"], effects()) == (503, "store-unavailable", 0)
    assert (response.headers["Retry-After"], response.headers["x-should-retry"]) == ("1", "true")
    assert "store-unavailable" in caplog.text
    assert "secret-key" not in caplog.text
    assert "hunter2" not in caplog.text
    assert send(key="secret-key", body={"password": "hunter2"}).status_code == 201


def test_undone_transaction_runs_again_on_a_fresh_view(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    undone = OperationalError(1213, "deadlock")

    def post(self: ProbeView, request: Any, act: str) -> Any:
        seen.append((hasattr(self, "mark"), dict(request.data)))
        self.mark = request.data.pop("a")
        if len(seen) == 1:
            effect()
            raise undone
        return ProbeView.patch(self, request, act)

    monkeypatch.setattr(ProbeView, "post", post)
    assert send().status_code == 201
    assert seen == [(False, {"a": 1}), (False, {"a": 1})]
    assert effects() == 1


def test_binary_answer_keeps_bytes_and_allowed_headers_and_no_cookie() -> None:
    first, retry = send("download"), send("download")
    assert retry.content == first.content == b"\x00\xff\x00"
    assert retry.headers["Content-Disposition"] == first.headers["Content-Disposition"]
    assert "X-Internal" not in retry.headers
    assert not retry.cookies
    assert not {"set-cookie", "x-internal"} & {name.lower() for name, _ in record().response_headers}


KEPT_HEADERS = ["Content-Type", "Set-Cookie", "Date", "X-Internal", "Access-Control-Allow-Origin"]


@override_settings(IDEMPOTENCY={"RESPONSE_HEADERS": KEPT_HEADERS})
def test_no_setting_makes_a_cookie_or_a_cors_header_stored() -> None:
    send("download")
    assert dict(record().response_headers) == {"Content-Type": "application/octet-stream", "X-Internal": "1"}


def test_empty_answer() -> None:
    send("empty")
    retry = send("empty")
    assert (retry.status_code, retry.content, "Content-Type" in retry.headers) == (204, b"", False)


@pytest.mark.parametrize("act", ["stream", "large"])
def test_body_that_cannot_be_kept_is_omitted_and_the_operation_does_not_run_again(act: str) -> None:
    send(act)
    retry = send(act)
    assert (retry.status_code, retry.content, effects()) == (200, b"", 1)
    assert retry.headers["Idempotent-Body-Omitted"] == "true"


def test_key_from_a_body_field_ignored_fields_and_body_not_stored() -> None:
    def post(**fields: str) -> Any:
        return APIClient().post("/form/", fields, format="json")

    first, retry = post(key="f", trace="1"), post(key="f", trace="2")
    assert (first.status_code, retry.status_code, retry.content, effects()) == (201, 201, b"", 1)
    assert retry.headers["Idempotent-Body-Omitted"] == "true"
    assert post(trace="3").status_code == 201
    assert effects() == 2


def test_every_caller_has_keys_of_its_own_and_a_revoked_one_gets_no_replay() -> None:
    ProductFactory(pk=1)
    alice, bob = TokenFactory(), TokenFactory()

    def order(token: Any) -> Any:
        headers = {"Authorization": f"Token {token.key}", "Idempotency-Key": "k"}
        return Client(headers=headers).post("/api/orders/", {"product": 1}, content_type="application/json")

    first = order(alice)
    assert (first.status_code, order(bob).status_code, Order.objects.count()) == (201, 201, 2)
    assert order(alice).content == first.content
    alice.delete()
    assert order(alice).status_code == 401


def test_object_permission_is_asked_again_before_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    token = TokenFactory()
    client = APIClient(HTTP_AUTHORIZATION=f"Token {token.key}", HTTP_IDEMPOTENCY_KEY="k")
    monkeypatch.setattr(OwnedView, "owners", {1: token.user.pk})
    assert client.post("/owned/1/").status_code == 201
    assert client.post("/owned/1/").headers["Idempotent-Replayed"] == "true"
    OwnedView.owners.clear()
    assert client.post("/owned/1/").status_code == 403


def test_balance_is_added_once() -> None:
    wallet = WalletFactory()
    token = TokenFactory(user=wallet.user)
    client = APIClient(HTTP_AUTHORIZATION=f"Token {token.key}", HTTP_IDEMPOTENCY_KEY="k")
    answers = [client.patch("/api/wallet/", {"amount": "5.00"}, format="json").content for _ in range(3)]
    assert len(set(answers)) == 1
    assert Wallet.objects.get().balance == 105


def upload(client: Any, content: bytes = b"data", name: str = "a.txt", method: str = "post") -> Any:
    files = {"title": "t", "file": SimpleUploadedFile(name, content, "text/plain")}
    return getattr(client, method)("/upload/", files, format="multipart")


@pytest.mark.parametrize("method", ["post", "patch"])
def test_upload_with_a_new_boundary_is_the_same_request(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = APIClient(HTTP_IDEMPOTENCY_KEY="k")
    first = upload(client, method=method)
    assert first.json() == {"files": {"file": 4}, "fields": {"title": ["t"]}}
    monkeypatch.setattr("rest_framework.renderers.MultiPartRenderer.BOUNDARY", "OtherBoundary")
    monkeypatch.setattr(
        "rest_framework.renderers.MultiPartRenderer.media_type", "multipart/form-data; boundary=OtherBoundary"
    )
    retry = upload(client, method=method)
    assert (retry.content, effects()) == (first.content, 1)
    assert upload(client, b"other", method=method).status_code == 422
    assert upload(client, name="b.txt", method=method).status_code == 422


def test_upload_is_read_anew_when_the_transaction_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    original, left = UploadView.post, [OperationalError(1213, "deadlock")]

    def post(self: UploadView, request: Any) -> Any:
        response = original(self, request)
        if left:
            raise left.pop()
        return response

    monkeypatch.setattr(UploadView, "post", post)
    answer = upload(APIClient(HTTP_IDEMPOTENCY_KEY="k"), b"x" * 3_000_000)
    assert answer.json() == {"files": {"file": 3_000_000}, "fields": {"title": ["t"]}}
    assert effects() == 1


def test_large_raw_body_reaches_its_parser() -> None:
    headers = {"Idempotency-Key": "k"}
    body = b"y" * 3_000_000
    for _ in range(2):
        response = Client(headers=headers).post("/plain/", body, content_type="application/octet-stream")
        assert response.json() == {"length": 3_000_000}
    assert effects() == 1
    other = Client(headers=headers).post("/plain/", body + b"!", content_type="application/octet-stream")
    assert other.status_code == 422


def test_malformed_upload_is_the_parsers_400() -> None:
    client = Client(headers={"Idempotency-Key": "k"})
    response = client.post("/upload/", b"no parts", content_type="multipart/form-data; boundary=")
    assert (response.status_code, effects()) == (400, 0)


def test_receipt_is_kept_once() -> None:
    client = APIClient(HTTP_AUTHORIZATION=f"Token {TokenFactory().key}", HTTP_IDEMPOTENCY_KEY="k")
    for _ in range(2):
        file = SimpleUploadedFile("r.txt", b"receipt", "text/plain")
        assert (
            client.post("/api/receipts/", {"title": "t", "file": file}, format="multipart").status_code == 201
        )
    assert Receipt.objects.count() == 1


def test_payload_is_kept_redacted_and_query_too() -> None:
    send(body={"note": "n", "card": {"cardNumber": "4111"}}, query_params={"access_token": "s", "a": "1"})
    assert json.loads(bytes(record().request_payload or b"")) == {
        "note": "n",
        "card": {"cardNumber": "[redacted]"},
    }
    assert record().path == "/probe/create/?access_token=%5Bredacted%5D&a=1"


def test_view_sees_its_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def post(self: ProbeView, request: Any, act: str) -> Any:
        seen.append((request.idempotency, request._request.idempotency))
        return ProbeView.patch(self, request, act)

    monkeypatch.setattr(ProbeView, "post", post)
    send()
    (claim, same), row = seen[0], record()
    assert claim is same
    assert (claim.key, claim.record_id, claim.attempt) == ("k", row.id, row.attempt)
    assert row.id == operation_id("anonymous probe/<str:act>/", "k")
    assert claim.child_key("charge") != claim.child_key("refund")


SETTINGS: dict[str, Any] = {
    "SCOPE": lambda request: "tenant 1",
    "FINGERPRINT": lambda request: "same",
    "STORE": lambda response: False,
    "KEY_VALIDATOR": lambda key: key != "bad",
    "HEADER": ["X-Request-Key", "Idempotency-Key"],
    "STORE_REQUEST_PAYLOAD": False,
}


def test_settings_that_take_over_a_decision() -> None:
    def settings(name: str) -> Any:
        return override_settings(IDEMPOTENCY={name: SETTINGS[name]})

    with settings("SCOPE"):
        send(key="scope")
        assert record().scope == "tenant%201 probe/<str:act>/"
    with settings("FINGERPRINT"):
        send(key="print")
        assert send(key="print", body={"other": 1}).headers["Idempotent-Replayed"] == "true"
    with settings("STORE"):
        count = effects()
        assert (send(key="store").status_code, effects()) == (201, count)
    with settings("KEY_VALIDATOR"):
        assert (send(key="bad").status_code, send(key="good").status_code) == (400, 201)
    with settings("HEADER"):
        assert send(key="h", headers={"X-Request-Key": "bad key"}).status_code == 400
    with settings("STORE_REQUEST_PAYLOAD"):
        send(key="payload")
        assert IdempotencyRecord.objects.get(key="payload").request_payload is None


def test_checks_of_the_view_come_before_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    send()

    def initial(self: ProbeView, request: Any, *args: Any, **kwargs: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(ProbeView, "initial", initial)
    assert send().status_code == 500


def test_handler_runs_in_the_mixins_own_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    depths: list[int] = []

    def post(self: ProbeView, request: Any, act: str) -> Any:
        depths.append(len(connection.savepoint_ids))
        return ProbeView.patch(self, request, act)

    monkeypatch.setattr(ProbeView, "post", post)
    send()
    assert depths == [0], "no savepoint on the happy path"


def test_unguarded_requests_keep_atomic_requests(atomic_requests: bool) -> None:
    assert send("crash", key=None).status_code == 500
    assert effects() == (0 if atomic_requests else 1)
    with override_settings(IDEMPOTENCY={"METHODS": []}):
        assert send("crash").status_code == 500
    assert effects() == (0 if atomic_requests else 2)


def test_requests_inside_a_tests_own_transaction() -> None:
    with transaction.atomic():
        first = send()
        assert send().content == first.content
        assert send(key="two words").status_code == 400
        assert send(body={"a": 2}).status_code == 422
        assert send("invalid", key="i").status_code == 400
        assert send("crash", key="c").status_code == 500
        assert effects() == 1


def test_attributes_and_hooks_are_the_documented_ones() -> None:
    known = {**vars(IdempotencyHooks), **vars(IdempotencyMixin)}
    names = {name for name in known if not name.startswith("_")}
    assert names == {
        "idempotency_required", "idempotency_methods", "idempotency_retention", "idempotency_ignore_fields",
        "idempotency_wait_seconds", "idempotency_store_body", "as_view", "dispatch", "get_idempotency_key",
        "get_idempotency_scope",
        "get_idempotency_fingerprint", "should_store_response", "authorize_idempotent_replay",
    }  # fmt: skip


@pytest.mark.parametrize(("act", "data"), [("create", True), ("download", False), ("empty", False)])
def test_dispatch_finds_the_data_of_a_replay(act: str, data: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def dispatch(self: ProbeView, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = IdempotencyMixin.dispatch(self, request, *args, **kwargs)
        seen.append((getattr(response, "data", None), response.content))
        return response

    monkeypatch.setattr(ProbeView, "dispatch", dispatch, raising=False)
    send(act)
    assert send(act).headers["Idempotent-Replayed"] == "true"
    assert seen[1] == (json.loads(seen[0][1]) if data else None, seen[0][1])


def test_hook_that_raises_after_the_commit_is_no_answer_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its refusal would say that nothing was done."""

    def hook() -> None:
        raise ValidationError("in the hook")

    def post(self: ProbeView, request: Any, act: str) -> Any:
        transaction.on_commit(hook)
        return ProbeView.patch(self, request, act)

    monkeypatch.setattr(ProbeView, "post", post)
    assert send().status_code == 500
    assert send().headers["Idempotent-Replayed"] == "true"
    assert effects() == 1
