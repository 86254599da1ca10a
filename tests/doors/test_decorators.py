"""``@idempotent``: what its options do, where it may stand, and what it must not hide."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from functools import partial
from html import unescape
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.door_checks import check_views
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.doors import views
from tests.doors.conftest import replayed
from tests.factories import UserFactory
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("doors")]


def post(view: Any, key: str | None = "k", body: Any = None, **extra: Any) -> Any:
    """Call a view with a request of its own, as the URL resolver would."""
    headers = {} if key is None else {"Idempotency-Key": key}
    request = RequestFactory().post(
        "/x/", json.dumps({} if body is None else body), "application/json", headers=headers
    )
    for name, value in extra.items():
        setattr(request, name, value)
    return view(request)


def made(request: Any, *args: Any, **kwargs: Any) -> JsonResponse:
    return JsonResponse({"id": effect()}, status=201)


# Options


def test_required_key_that_is_missing_is_400() -> None:
    answer = post(idempotent(required=True)(made), key=None)
    assert (answer.status_code, json.loads(answer.content)["code"]) == (400, "missing-key")
    assert effects() == 0


def test_options_go_over_the_settings() -> None:
    with override_settings(IDEMPOTENCY={"REQUIRED": True, "METHODS": ["PUT"], "STORE_BODY": False}):
        assert post(idempotent(required=False, methods=["POST"])(made), key=None).status_code == 201
        view = idempotent(methods=["POST"], store_body=True)(made)
        assert post(view).content == post(view).content
        unguarded = idempotent(made)
        assert post(unguarded).content != post(unguarded).content


def test_body_that_is_not_to_be_stored_is_left_out_and_said_to_be() -> None:
    view = idempotent(store_body=False)(made)
    first, retry = post(view), post(view)
    assert (first.content != b"", retry.content) == (True, b"")
    assert (retry.headers["Idempotent-Body-Omitted"], effects()) == ("true", 1)


def test_key_scope_and_fingerprint_are_callables_of_the_request() -> None:
    view = idempotent(
        key=lambda request: json.loads(request.body).get("event"),
        scope=lambda request: "the provider",
        fingerprint=lambda request: "always the same",
    )(made)
    first = post(view, key=None, body={"event": "e1"})
    again = post(view, key="ignored", body={"event": "e1", "sent_again": True})
    assert (replayed(again), again.content) == (True, first.content)
    assert IdempotencyRecord.objects.get().scope.startswith("the%20provider ")
    assert not replayed(post(view, key=None, body={}))


def drf_above(**options: Any) -> Any:
    return idempotent(**options)(views.api_function(lambda view: view))


def drf_below(**options: Any) -> Any:
    return views.api_function(idempotent(**options))


def drf_call(view: Any, body: Any, key: str | None = "k") -> Any:
    response = post(lambda request: view(request, act="201"), key, body)
    return response.render() if hasattr(response, "render") else response


@pytest.mark.parametrize("door", [drf_above, drf_below])
def test_callables_are_asked_in_drf_too(door: Any) -> None:
    view = door(
        key=lambda request: request.data.get("event"),
        scope=lambda request: "the provider",
        fingerprint=lambda request: "always the same",
    )
    first = drf_call(view, {"event": "e1"}, key=None)
    again = drf_call(view, {"event": "e1", "sent_again": True}, key="ignored")
    assert (replayed(again), again.content) == (True, first.content)
    assert IdempotencyRecord.objects.get().scope.startswith("the%20provider ")
    assert not replayed(drf_call(view, {}, key=None))


@pytest.mark.parametrize("door", [drf_above, drf_below])
def test_fields_are_ignored_in_drf_too(door: Any) -> None:
    view = door(ignore_fields=["sent_at"])
    drf_call(view, {"amount": 1, "sent_at": 1})
    assert replayed(drf_call(view, {"amount": 1, "sent_at": 2}))
    assert drf_call(view, {"amount": 2, "sent_at": 1}).status_code == 422


class Owned(IdempotencyMixin, views.Api):
    """Asks for the object's owner again before a replay."""

    @idempotent(required=True)
    def post(self, request: Request, act: str) -> HttpResponseBase:
        return views.answer(act)

    def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise PermissionDenied


def test_tuned_handler_still_asks_its_view_before_a_replay() -> None:
    view = Owned.as_view()
    assert drf_call(view, {}).status_code == 201
    assert drf_call(view, {}).status_code == 403


def test_hook_of_the_view_counts_where_the_decorator_says_nothing() -> None:
    class Provider(Owned):
        def get_idempotency_scope(self, request: Request) -> str:
            return "hook"

        def get_idempotency_fingerprint(self, request: Request) -> str:
            return "same"

        def get_idempotency_key(self, request: Request) -> str | None:
            key: str | None = request.data.get("event")
            return key

        @idempotent(ignore_fields=["other"])
        def post(self, request: Request, act: str) -> HttpResponseBase:
            return views.answer(act)

        def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
            pass

    view = Provider.as_view()
    assert replayed(drf_call(view, {"event": "e"}, key=None)) is False
    assert replayed(drf_call(view, {"event": "e", "more": 1}, key=None)) is True
    assert IdempotencyRecord.objects.get().scope.startswith("hook ")


def test_ignored_fields_do_not_count() -> None:
    view = idempotent(ignore_fields=["sent_at"])(made)
    post(view, body={"amount": 1, "sent_at": 1})
    assert replayed(post(view, body={"amount": 1, "sent_at": 2}))
    assert post(view, body={"amount": 2, "sent_at": 1}).status_code == 422


def test_store_decides_what_is_kept() -> None:
    view = idempotent(store=lambda response: response.status_code == 503)(lambda request: views.answer("503"))
    assert (post(view).status_code, replayed(post(view)), effects()) == (503, True, 1)
    view = idempotent(store=lambda response: False)(made)
    assert (post(view, "other").status_code, effects()) == (201, 1)


@pytest.mark.parametrize("retention", [90, timedelta(seconds=90)])
def test_retention_sets_the_expiry(retention: Any) -> None:
    post(idempotent(retention=retention)(made))
    left = IdempotencyRecord.objects.get().expires_at - timezone.now()
    assert timedelta(seconds=80) < left <= timedelta(seconds=90)


@pytest.mark.parametrize(
    "options",
    [
        {"required": 1}, {"methods": "POST"}, {"methods": ["post"]}, {"retention": 0}, {"retention": True},
        {"wait_seconds": -1}, {"wait_seconds": "5"}, {"scope": "user"}, {"fingerprint": 1}, {"key": "Idempotency-Key"},
        {"ignore_fields": "trace"}, {"store": True}, {"store_body": None, "retention": "1 day"},
    ],
)  # fmt: skip
def test_option_of_the_wrong_kind_is_an_error_at_import(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"@idempotent\(\w+=.*\): give "):
        idempotent(**options)


def test_unknown_option_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="retries"):
        idempotent(retries=3)


# Where it stands


class Owner(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return made(request)


@pytest.mark.parametrize("thing", [Owner, APIView, 7, "view", property(lambda self: None)])
def test_what_is_no_view_is_an_error_at_import(thing: Any) -> None:
    with pytest.raises(TypeError, match="guards views"):
        idempotent(thing)


def test_dispatch_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match=r"dispatch\(\) would answer before"):

        class Wrong(View):
            @idempotent
            def dispatch(self, request: HttpRequest) -> HttpResponseBase:
                return super().dispatch(request)


def test_dispatch_by_method_decorator_is_an_error_when_it_is_called() -> None:
    view = method_decorator(idempotent, name="dispatch")(type("Wrong", (Owner,), {})).as_view()
    with pytest.raises(TypeError, match=r"dispatch\(\) would answer before"):
        post(view)
    assert effects() == 0


def test_callback_behind_another_decorator_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="directly above @api_view or as_view"):
        idempotent(login_required(views.Api.as_view()))


def test_helper_without_a_request_is_an_error_that_names_the_other_decorator() -> None:
    @idempotent
    def helper(amount: int) -> int:
        return amount

    with pytest.raises(TypeError, match="use @idempotent_function for other code"):
        helper(3)


def test_view_keeps_its_name_and_attributes() -> None:
    made.csrf_exempt = True  # type: ignore[attr-defined]
    view = idempotent(made)
    assert (view.__name__, view.csrf_exempt, view.__wrapped__) == ("made", True, made)
    callback = idempotent(views.Api.as_view())
    assert (callback.cls, callback.csrf_exempt) == (views.Api, True)


def test_view_that_returns_nothing_is_an_error_and_leaves_nothing() -> None:
    def nothing(request: HttpRequest) -> None:
        effect()

    with pytest.raises(TypeError, match="nothing returned NoneType instead of an HttpResponse"):
        post(idempotent(nothing))
    assert effects() == 0


# What is checked before a replay


class Allowed(BasePermission):
    on = True

    def has_permission(self, request: Request, view: Any) -> bool:
        return self.on


class Permitted(views.Api):
    permission_classes = (Allowed,)


class Checked(Owner):
    """Checks in ``dispatch()``, as Django's own access mixins do."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not Allowed.on:
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)


class CheckedHandler(Checked):
    @idempotent
    def post(self, request: HttpRequest) -> HttpResponse:
        return made(request)


def above(request: HttpRequest) -> HttpResponse:
    if not Allowed.on:
        raise PermissionDenied
    return idempotent(made)(request)


urlpatterns = [
    path("drf/<act>/", idempotent(Permitted.as_view())),
    path("class/", idempotent(Checked.as_view())),
    path("handler/", CheckedHandler.as_view()),
    path("above/", above),
]


@pytest.mark.parametrize("url", ["/drf/201/", "/class/", "/handler/", "/above/"])
@override_settings(ROOT_URLCONF=__name__)
def test_revoked_caller_gets_403_and_no_body(
    url: str, monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
) -> None:
    def send() -> Any:
        return Client().post(url, "{}", "application/json", headers={"Idempotency-Key": "k"})

    first = send()
    assert (first.status_code, send().content) == (201, first.content)
    monkeypatch.setattr(Allowed, "on", False)
    refused = send()
    assert refused.status_code == 403
    assert first.content not in refused.content
    assert effects() == 1


def test_users_do_not_see_each_other() -> None:
    view = idempotent(made)
    alice, bob = UserFactory.create_batch(2)
    first = post(view, user=alice)
    assert post(view, user=alice).content == first.content
    assert post(view, user=bob).content != first.content
    assert post(view).content != first.content
    scopes = IdempotencyRecord.objects.values_list("scope", flat=True)
    assert {scope.split()[0] for scope in scopes} == {f"user:{alice.pk}", f"user:{bob.pk}", "anonymous"}


def test_callers_without_a_session_are_told_apart_by_authorization() -> None:
    view = idempotent(made)

    def send(token: str) -> Any:
        request = RequestFactory().post("/x/", headers={"Idempotency-Key": "k", "Authorization": token})
        return view(request)

    assert send("Bearer a").content == send("Bearer a").content != send("Bearer b").content
    assert "Bearer" not in "".join(IdempotencyRecord.objects.values_list("scope", flat=True))


# Running again


def conflict() -> OperationalError:
    error = OperationalError("deadlock")
    error.args = (1213, "deadlock")
    error.__cause__ = type("Cause", (Exception,), {"sqlstate": "40001"})()
    return error


class Impatient(View):
    """Spoils all that it gets hold of, and fails the first time."""

    runs: list[dict[str, Any]] = []
    mood = "fresh"

    @idempotent
    def post(self, request: Any) -> HttpResponse:
        seen = {"mood": self.mood, "visits": request.session.get("visits", 0), "note": request.POST["note"]}
        seen |= {"file": request.FILES["file"].read(), "tag": getattr(request, "tag", None)}
        self.runs.append(seen)
        self.mood, request.tag = "spoiled", "spoiled"
        request.session["visits"] = seen["visits"] + 1
        if len(self.runs) == 1:
            raise conflict()
        return made(request)


@pytest.mark.vendors("postgresql", "mysql")
def test_run_again_finds_view_request_session_and_files_as_they_were(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr(Impatient, "runs", [])
    from io import BytesIO

    file = BytesIO(b"content")
    file.name = "a.txt"
    with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("x/", Impatient.as_view())]})):
        answer = client.post("/x/", {"note": "n", "file": file}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    assert Impatient.runs[0] == Impatient.runs[1]
    assert Impatient.runs[0] == {"mood": "fresh", "visits": 0, "note": "n", "file": b"content", "tag": None}
    assert (client.session["visits"], effects()) == (1, 1)


# Doors inside doors


def test_one_request_through_two_doors_is_one_operation() -> None:
    view = idempotent(idempotent(made))
    first, retry = post(view), post(view)
    assert (retry.content, effects(), IdempotencyRecord.objects.count()) == (first.content, 1, 1)


def test_request_that_is_used_again_is_guarded_again() -> None:
    view = idempotent(made)
    request = RequestFactory().post("/x/", headers={"Idempotency-Key": "k"})
    assert view(request).content == view(request).content
    assert effects() == 1


def test_inside_an_outer_block_it_shares_the_fate_of_that_block() -> None:
    view = idempotent(made)
    with pytest.raises(RuntimeError), transaction.atomic():
        assert replayed(post(view)) is False
        assert replayed(post(view)) is True
        raise RuntimeError
    assert effects() == IdempotencyRecord.objects.count() == 0


def test_options_of_an_action_count_inside_a_mixin() -> None:
    urls = [path("<act>/", views.GuardedSet.as_view({"post": "tuned"}))]
    with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": urls})):
        client = Client(headers={"Idempotency-Key": "k"})
        assert Client().post("/201/").json()["code"] == "missing-key"
        assert [client.post("/400/").status_code for _ in range(2)] == [400, 400]
        assert effects() == 0
        assert replayed(client.post("/201/")) is False
        assert replayed(client.post("/201/")) is True


# ATOMIC_REQUESTS


@pytest.mark.parametrize("exempt", [False, True])
def test_unkeyed_call_has_the_transaction_that_the_project_asks_for(
    exempt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    seen: list[bool] = []

    def view(request: HttpRequest, act: str) -> HttpResponse:
        seen.append(connection.in_atomic_block)
        return made(request)

    door = idempotent(transaction.non_atomic_requests(view) if exempt else view)
    urls = type("urls", (), {"urlpatterns": [path("<act>/", door)]})
    with override_settings(ROOT_URLCONF=urls):
        Client().post("/x/")
        Client().get("/x/")
    assert seen == [not exempt] * 2


# Forms


def form(view: Any, fields: dict[str, Any], **headers: str) -> Any:
    return view(RequestFactory().post("/x/", fields, headers=headers))


def test_key_of_a_form_counts_and_its_csrf_token_does_not() -> None:
    view = idempotent(made)
    first = form(view, {"idempotency_key": "k", "amount": "1", "csrfmiddlewaretoken": "a"})
    again = form(view, {"idempotency_key": "k", "amount": "1", "csrfmiddlewaretoken": "b"})
    assert (replayed(again), again.content) == (True, first.content)
    assert form(view, {"idempotency_key": "k", "amount": "2"}).status_code == 422
    payload = bytes(IdempotencyRecord.objects.get().request_payload)
    assert b"amount" in payload
    assert b'"a"' not in payload


def test_upload_handlers_that_are_set_above_the_door_are_the_ones_that_are_used() -> None:
    files: list[Any] = []
    view = idempotent(lambda request: files.append(request.FILES["f"]) or made(request))

    def above_it(request: HttpRequest) -> HttpResponse:
        request.upload_handlers = [TemporaryFileUploadHandler(request)]
        response: HttpResponse = view(request)
        return response

    form(above_it, {"f": SimpleUploadedFile("x", b"x")}, **{"Idempotency-Key": "k"})
    assert [type(file) for file in files] == [TemporaryUploadedFile]
    files[0].close()


def test_key_of_a_form_goes_before_a_header_that_the_browser_added() -> None:
    view = idempotent(made)
    form(view, {"idempotency_key": "k"}, **{"Idempotency-Key": "browser-1"})
    assert replayed(form(view, {"idempotency_key": "k"}, **{"Idempotency-Key": "browser-2"}))


@pytest.mark.parametrize(
    ("accept", "page"), [("text/html,*/*;q=0.8", True), ("*/*", False), ("application/json", False)]
)
def test_refusal_is_a_page_for_a_browser_and_a_problem_for_a_program(accept: str, page: bool) -> None:
    view = idempotent(made)
    form(view, {"idempotency_key": "k", "amount": "1"})
    refused = form(view, {"idempotency_key": "k", "amount": "2"}, Accept=accept)
    assert refused.status_code == 422
    assert refused.headers["Content-Type"].startswith("text/html" if page else "application/problem+json")
    assert b"fingerprint-mismatch" in refused.content


def test_refusal_is_a_problem_where_the_project_has_no_templates() -> None:
    view = idempotent(required=True)(made)
    with override_settings(TEMPLATES=[]):
        refused = view(RequestFactory().post("/x/", headers={"Accept": "text/html"}))
    assert (refused.status_code, json.loads(refused.content)["code"]) == (400, "missing-key")


# Exempt


@pytest.mark.parametrize("view", [made, views.aplain, partial(made), Owner.as_view()])
def test_exempt_marks_a_copy_that_is_the_view_in_all_else(view: Any) -> None:
    exempt = idempotency_exempt(view)
    assert exempt.idempotency_exempt is True
    assert not hasattr(view, "idempotency_exempt")
    assert iscoroutinefunction(exempt) == iscoroutinefunction(view)
    assert inspect.signature(exempt) == inspect.signature(view)
    assert {**vars(exempt), "idempotency_exempt": 0} == {**vars(view), "idempotency_exempt": 0}


def test_exempt_marks_a_class_itself() -> None:
    exempt = idempotency_exempt(type("Exempt", (Owner,), {}))
    assert exempt.idempotency_exempt is True  # type: ignore[attr-defined]
    assert issubclass(exempt, Owner)
    assert not hasattr(Owner, "idempotency_exempt")


def test_permission_above_is_no_finding_and_below_is_one() -> None:

    above_it = permission_required("shop.add_order")(permission_required("shop.x")(idempotent(made)))
    below_it = idempotent(permission_required("shop.add_order")(made))
    logged_in = idempotent(login_required(made))
    for view, found in ((above_it, []), (below_it, ["django_idempotency.W003"]), (logged_in, [])):
        with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("x/", view)]})):
            assert [message.id for message in check_views(None)] == found


def test_field_of_a_form_is_a_key_in_strict_form_too(settings: Any) -> None:
    settings.IDEMPOTENCY = {"KEY_FORMAT": "strict"}
    view = idempotent(required=True)(made)
    field = engines["django"].from_string("{% load idempotency %}{% idempotency_key %}").render()
    key = unescape(field.partition('value="')[2].removesuffix('">'))
    assert form(view, {"idempotency_key": key}).status_code == 201
    assert replayed(form(view, {"idempotency_key": key}))
