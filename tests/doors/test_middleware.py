"""``IdempotencyMiddleware``: what comes before it, what it leaves alone, and what its views see of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction
from django.conf import settings as project
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.core.checks import run_checks
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, override_settings
from django.urls import path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.generic import TemplateView
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency import middleware
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.door_checks import check_middleware
from django_idempotency.middleware import IdempotencyMiddleware
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.doors import views
from tests.doors.conftest import MIDDLEWARE, replayed
from tests.factories import TokenFactory, UserFactory
from tests.views import effect, effects

pytestmark = pytest.mark.django_db(transaction=True)

OUT: list[str] = []


class Gate:
    """Whether callers are let in; a test closes it between the first request and its retry."""

    open = True


@pytest.fixture(autouse=True)
def open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "open", True)
    OUT.clear()


def deny(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let nobody in while the gate is shut, as a project's own decorator does."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, *args, **kwargs) if Gate.open else HttpResponseForbidden()

    return inner


def deny_without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, *args, **kwargs) if Gate.open else HttpResponseForbidden()

    return inner


def deny_with_another_way(view: Callable[..., Any]) -> Callable[..., Any]:
    """Call the view at times by a name of its own for it: a copy of it would not be sure to be guarded."""
    unseen = partial(view)

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not Gate.open:
            return HttpResponseForbidden()
        return (unseen if request.GET else view)(request, *args, **kwargs)

    return inner


def deny_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def inner(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return method(self, request, *args, **kwargs) if Gate.open else HttpResponseForbidden()

    return inner


class Api(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        return Response({"id": effect()}, status=201)


class ApiGate:
    """A mixin that checks in ``dispatch()``."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not Gate.open:
            return HttpResponseForbidden()
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return answer


class GatedApi(ApiGate, Api):
    pass


@method_decorator(deny, name="dispatch")
class DecoratedApi(Api):
    pass


class InitialApi(Api):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not Gate.open:
            raise PermissionDenied


class WrappedByItself(Api):
    """Wraps its own callback, which the guarded subclass does as well."""

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        return deny(super().as_view(*args, **kwargs))


class ApiSet(ViewSet):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def create(self, request: Request) -> Response:
        if not Gate.open:
            raise PermissionDenied
        return Response({"id": effect()}, status=201)


class GatedSet(ApiGate, ApiSet):
    pass


class Mixed(IdempotencyMixin, GatedApi):
    pass


class Gated(ApiGate, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


@method_decorator([csrf_exempt, deny], name="dispatch")
class Decorated(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


class AsyncGated(ApiGate, View):
    async def post(self, request: HttpRequest) -> HttpResponseBase:
        return await views.async_answer("201")


class Answering(View):
    """Answers in ``dispatch()`` itself, as ``GraphQLView`` does."""

    def dispatch(self, request: HttpRequest) -> HttpResponseBase:  # type: ignore[override]
        return JsonResponse({"id": effect()}, status=201)


class AsyncAnswering(View):
    async def dispatch(self, request: HttpRequest) -> HttpResponseBase:  # type: ignore[override]
        return await views.async_answer("201")

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view: Any = super().as_view(**initkwargs)
        markcoroutinefunction(view)
        return view


class GatedAnswering(ApiGate, Answering):
    pass


class Routing(ApiGate, View):
    """Chooses the handler itself."""

    def post(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError

    def post_v2(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.post_v2(request)


class AsyncRouting(View):
    async def post(self, request: HttpRequest) -> HttpResponse:  # type: ignore[override]
        raise AssertionError

    async def dispatch(self, request: HttpRequest) -> HttpResponseBase:  # type: ignore[override]
        return await views.async_answer("201")


class RoutingApi(Api):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.post = lambda request: Response({"id": effect()}, status=201)  # type: ignore[method-assign,assignment]


class Tuned(View):
    """Decorated itself: it says what is stored, and that is nothing."""

    @idempotent(store=lambda response: False)
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


class ExemptHandler(View):
    @idempotency_exempt
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


def plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


def api(request: Request) -> HttpResponse:
    return Response({"id": effect()}, status=201)


#: Checked by the class or by what is around its dispatch(): all of it runs before a replay.
FROM_INSIDE = {
    "drf-dispatch-mixin": GatedApi.as_view(),
    "drf-decorated-dispatch": DecoratedApi.as_view(),
    "drf-initial": InitialApi.as_view(),
    "drf-own-as-view": WrappedByItself.as_view(),
    "drf-viewset": GatedSet.as_view({"post": "create"}),
    "drf-mixin": Mixed.as_view(),
    "class-dispatch-mixin": Gated.as_view(),
    "class-decorated-dispatch": Decorated.as_view(),
    "class-async": AsyncGated.as_view(),
    "class-that-answers-in-dispatch": GatedAnswering.as_view(),
    "wrapped-drf": deny(Api.as_view()),
    "wrapped-viewset": deny(ApiSet.as_view({"post": "create"})),
    "wrapped-twice": deny(csrf_exempt(Api.as_view())),
    "wrapped-gated-drf": csrf_exempt(GatedApi.as_view()),
    "wrapped-class": csrf_exempt(Gated.as_view()),
    "wrapped-class-twice": deny(never_cache(Decorated.as_view())),
}
#: Behind a decorator that hides it: the middleware stands aside, every request runs, and every check with it.
LEFT_ALONE = {
    "class-behind-a-middleware": csrf_protect(Gated.as_view()),
    "hidden-class": deny_without_wraps(Gated.as_view()),
    "hidden-class-that-answers-in-dispatch": deny_without_wraps(Answering.as_view()),
    "class-by-two-ways": deny_with_another_way(Gated.as_view()),
    "drf-by-two-ways": deny_with_another_way(Api.as_view()),
    "hidden-drf": deny_without_wraps(Api.as_view()),
    "hidden-deeper": deny_without_wraps(deny_without_wraps(Api.as_view())),
}


def crashing(request: HttpRequest, kind: str) -> HttpResponse:
    effect()
    raise {"missing": Http404, "denied": PermissionDenied, "crash": RuntimeError}[kind](kind)


urlpatterns = [
    *(path(f"{name}/", view) for name, view in (FROM_INSIDE | LEFT_ALONE).items()),
    path("answering/", Answering.as_view()),
    path("async-answering/", AsyncAnswering.as_view()),
    path("decorated-answering/", idempotent(GatedAnswering.as_view())),
    path("routing/", Routing.as_view()),
    path("async-routing/", AsyncRouting.as_view()),
    path("drf-routing/", RoutingApi.as_view()),
    path("wrapped-async/", csrf_exempt(AsyncGated.as_view())),
    path("plain/", plain),
    path("plainer/", plain),
    path("exempt/", idempotency_exempt(plain)),
    path("exempt-class/", idempotency_exempt(type("Exempt", (Gated,), {})).as_view()),
    path("decorated/", idempotent(required=True)(plain)),
    path("crashing/<kind>/", crashing),
    path("tuned/", Tuned.as_view()),
    path("tuned-behind-a-decorator/", csrf_exempt(Tuned.as_view())),
    path("exempt-handler/", ExemptHandler.as_view()),
    path("nothing/", lambda request: effect() and None),
    path("csrf/", csrf_exempt(plain)),
    path("act/<act>/", views.plain),
]


def site(*paths: str, **options: Any) -> Any:
    return override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[*project.MIDDLEWARE, *options.pop("middleware", ()), MIDDLEWARE],
        IDEMPOTENCY={"MIDDLEWARE_PATHS": list(paths or ("/",)), **options.pop("idempotency", {})},
        **options,
    )


def send(url: str, key: str | None = "k", client: Client | None = None, **options: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    client = client or Client(raise_request_exception=False)
    return client.post(
        url, "{}", "application/json", headers={**headers, **options.pop("headers", {})}, **options
    )


# What comes before a replay (I6)


@pytest.mark.parametrize("name", FROM_INSIDE)
def test_class_is_guarded_from_inside_after_its_own_checks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site():
        first, retry = send(f"/{name}/"), send(f"/{name}/")
        assert (first.status_code, replayed(retry), retry.content) == (201, True, first.content)
        monkeypatch.setattr(Gate, "open", False)
        refused = send(f"/{name}/")
        assert (refused.status_code, replayed(refused)) == (403, False)
        assert first.content not in refused.content
    assert effects() == 1


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_class_that_is_hidden_by_a_decorator_is_left_alone_with_all_its_checks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site():
        assert [replayed(send(f"/{name}/")) for _ in range(2)] == [False, False]
        assert effects() == 2
        monkeypatch.setattr(Gate, "open", False)
        assert send(f"/{name}/").status_code == 403


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_e007_names_the_class_that_cannot_be_guarded(name: str) -> None:
    with site(f"/{name}/"):
        (message,) = doors_messages()
    assert (message.id, f"/{name}/" in message.msg) == ("django_idempotency.E007", True)


def test_views_that_can_be_guarded_are_no_finding() -> None:
    for name in FROM_INSIDE:
        with site(f"/{name}/"):
            assert doors_messages() == []


def doors_messages() -> list[Any]:
    return [each for each in run_checks() if (each.id or "").startswith("django_idempotency")]


def test_csrf_failure_is_never_replayed() -> None:
    with site():
        client = Client(enforce_csrf_checks=True)
        assert send("/plain/").status_code == 201
        refused = send("/plain/", client=client)
        assert (refused.status_code, replayed(refused)) == (403, False)


def test_login_required_middleware_comes_first() -> None:
    guard = ("django.contrib.auth.middleware.LoginRequiredMiddleware",)
    user = UserFactory()
    with site(middleware=guard, LOGIN_URL="/login/"):
        client = Client()
        client.force_login(user)
        assert [send("/plain/", client=client).status_code for _ in range(2)] == [201, 201]
        client.logout()
        assert send("/plain/", client=client).status_code == 302
    assert effects() == 1


def test_drf_user_is_authenticated_before_the_replay() -> None:
    class Private(Api):
        authentication_classes = (TokenAuthentication,)
        permission_classes = (IsAuthenticated,)

    token = TokenFactory()
    headers = {"Authorization": f"Token {token.key}"}
    urls = type("urls", (), {"urlpatterns": [path("private/", Private.as_view())]})
    with site(), override_settings(ROOT_URLCONF=urls):
        assert [send("/private/", headers=headers).status_code for _ in range(2)] == [201, 201]
        assert send("/private/").status_code == 401
        token.delete()
        assert send("/private/", headers=headers).status_code == 401
    assert effects() == 1
    assert IdempotencyRecord.objects.get().scope.startswith("user:")


# What it guards


@pytest.mark.parametrize("name", ["answering", "async-answering", "decorated-answering"])
def test_class_that_answers_in_dispatch_is_guarded_there(name: str) -> None:
    with site():
        assert [replayed(send(f"/{name}/")) for _ in range(2)] == [False, True]
    assert effects() == 1


@pytest.mark.parametrize("name", ["routing", "async-routing", "drf-routing"])
def test_handler_that_no_door_could_see_is_an_error_in_the_log(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with site():
        send(f"/{name}/", key=None)
        assert "past its guarded handler" not in caplog.text
        assert send(f"/{name}/").status_code == 201
    (line,) = (record for record in caplog.records if "past its guarded handler" in record.message)
    assert (line.levelname, line.message.startswith(("Routing", "AsyncRouting"))) == ("ERROR", True)


@pytest.mark.parametrize(
    ("paths", "guarded"),
    [
        (["/"], True),
        (["/plain/"], True),
        (["/plain"], True),
        (["/pla"], False),
        (["/other/"], False),
        ([], False),
    ],
)
def test_paths_are_whole_folders(paths: list[str], guarded: bool) -> None:
    with site(), override_settings(IDEMPOTENCY={"MIDDLEWARE_PATHS": paths}):
        send("/plain/")
        assert replayed(send("/plain/")) is guarded
        assert replayed(send("/plainer/", "other")) is False


def test_paths_do_not_count_the_prefix_under_which_the_project_is_mounted() -> None:
    with site("/plain/"):
        send("/plain/", SCRIPT_NAME="/shop")
        assert replayed(send("/plain/", SCRIPT_NAME="/shop"))


def with_an_empty_cell() -> Any:
    """Return a handler whose closure names something that is never bound."""

    def post(self: View, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201 if request else unbound)

    if post is None:
        unbound = 0
    return post


@dataclass
class Unhashable:
    """A view that is an object, and unhashable, as every dataclass with ``__eq__`` is."""

    status: int = 201

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=self.status)


@pytest.mark.parametrize(
    "view",
    [Unhashable(), type("Empty", (View,), {"post": with_an_empty_cell()}).as_view()],
    ids=["unhashable", "empty cell"],
)
def test_unusual_view_is_guarded_like_any_other(view: Any) -> None:
    with site(), override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("x/", view)]})):
        assert [replayed(send("/x/")) for _ in range(2)] == [False, True]
    assert effects() == 1


@pytest.mark.parametrize("name", ["exempt", "exempt-class", "exempt-handler"])
def test_exempt_view_is_left_alone(name: str) -> None:
    with site():
        assert [replayed(send(f"/{name}/")) for _ in range(2)] == [False, False]
    assert IdempotencyRecord.objects.count() == 0


def test_view_that_is_exempt_at_one_url_is_guarded_at_the_other() -> None:
    with site():
        assert [replayed(send(f"/{name}/")) for name in ("exempt", "plain", "plain")] == [False, False, True]


def test_decorated_view_keeps_its_own_options() -> None:
    with site():
        assert send("/decorated/", key=None).json()["code"] == "missing-key"
        assert send("/plain/", key=None).status_code == 201
        assert [replayed(send("/decorated/")) for _ in range(2)] == [False, True]
    assert IdempotencyRecord.objects.count() == 1


@pytest.mark.parametrize("name", ["tuned", "tuned-behind-a-decorator"])
def test_decorated_handler_keeps_its_own_options(name: str) -> None:
    with site():
        assert [replayed(send(f"/{name}/")) for _ in range(2)] == [False, False]
    assert effects() == IdempotencyRecord.objects.completed().count() == 0


def test_required_key_is_asked_for_under_the_paths_only() -> None:
    with site("/plain/", idempotency={"REQUIRED": True}):
        missing = send("/plain/", key=None)
        assert (missing.status_code, missing.json()["code"]) == (400, "missing-key")
        assert send("/plainer/", key=None).status_code == 201


def test_get_is_left_alone() -> None:
    with site():
        assert Client().get("/plain/", headers={"Idempotency-Key": "k"}).status_code == 201
    assert IdempotencyRecord.objects.count() == 0


def test_unknown_url_is_404_and_no_record() -> None:
    with site():
        assert send("/nowhere/").status_code == 404
    assert IdempotencyRecord.objects.count() == 0


# Exceptions and answers of the view


class Judge:
    """A middleware that answers the exceptions of views."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        OUT.append(type(error).__name__)
        return HttpResponse("judged", status=418) if isinstance(error, RuntimeError) else None


JUDGE = (f"{__name__}.Judge",)


@pytest.mark.parametrize(
    ("kind", "status", "seen"),
    [("missing", 404, "Http404"), ("denied", 403, "PermissionDenied"), ("crash", 418, "RuntimeError")],
)
def test_exception_is_rolled_back_shown_to_the_others_and_raised_on(
    kind: str, status: int, seen: str
) -> None:
    with site(middleware=JUDGE):
        assert [send(f"/crashing/{kind}/").status_code for _ in range(2)] == [status, status]
    assert [seen, seen] == OUT
    assert effects() == IdempotencyRecord.objects.completed().count() == 0


def test_exception_that_nobody_answers_is_the_views_own_500() -> None:
    with site(), pytest.raises(RuntimeError, match="crash"):
        send("/crashing/crash/", client=Client())


def test_view_that_returns_nothing_runs_once_and_is_an_error() -> None:
    with site(), pytest.raises(TypeError, match="instead of an HttpResponse"):
        send("/nothing/", client=Client())
    assert effects() == 0


def test_template_response_is_stored_as_it_is_rendered() -> None:
    with site():
        first, retry = send("/act/template/"), send("/act/template/")
    assert first.content.startswith(b"effect ")
    assert (retry.content, replayed(retry)) == (first.content, True)


def test_refusal_is_a_problem() -> None:
    with site():
        send("/plain/")
        refused = Client().post("/plain/", "[1]", "application/json", headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    assert refused.headers["x-should-retry"] == "false"


# Transactions


def test_other_aliases_keep_their_atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:

    opened: list[str] = []
    monkeypatch.setattr(
        middleware.transaction, "atomic", lambda using: lambda view: opened.append(using) or view
    )
    monkeypatch.setattr(
        middleware.connections,
        "settings",
        {
            "default": {"ATOMIC_REQUESTS": True},
            "other": {"ATOMIC_REQUESTS": True},
            "third": {"ATOMIC_REQUESTS": False},
        },
    )
    middleware._atomic_elsewhere(plain, plain)
    assert opened == ["other"]


def test_guarded_view_runs_in_the_records_transaction(atomic_requests: bool) -> None:
    seen: list[bool] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(connection.in_atomic_block)
        return plain(request)

    with site(), override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("x/", view)]})):
        send("/x/")
        send("/x/", key=None)
    assert seen == [True, atomic_requests]


# Async


@pytest.mark.parametrize("name", ["plain", "class-async", "drf-initial", "wrapped-async", "act/201"])
def test_async_handler_keeps_the_same_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:

    async def both() -> list[Any]:
        client = AsyncClient()
        options = {"content_type": "application/json", "headers": {"Idempotency-Key": "k"}}
        return [await client.post(f"/{name}/", "{}", **options) for _ in range(2)]

    with site():
        first, retry = async_to_sync(both)()
    assert (first.status_code, replayed(retry), retry.content) == (201, True, first.content)
    assert effects() == 1


# Checks


def test_example_without_findings() -> None:
    with site("/plain/"):
        assert doors_messages() == []


def test_e005_without_paths_it_guards_nothing() -> None:
    with site(), override_settings(IDEMPOTENCY={}):
        (message,) = doors_messages()
    assert (message.id, "MIDDLEWARE_PATHS" in message.msg) == ("django_idempotency.E005", True)


def test_e006_it_has_to_be_the_last() -> None:
    with site("/plain/"), override_settings(MIDDLEWARE=project.MIDDLEWARE[::-1]):
        (message,) = doors_messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.E006", True)


class Own(IdempotencyMiddleware):
    """A project's own, which other entries of MIDDLEWARE are not."""


@pytest.mark.parametrize(
    ("entries", "paths", "found"),
    [
        (["Own"], ["/plain/"], []),
        (["Own"], [], ["django_idempotency.E005"]),
        (["Own", "plain"], ["/plain/"], ["django_idempotency.E006"]),
        (["Own", "Own"], ["/plain/"], ["django_idempotency.E006"]),
        (["Own", "plain", "Own"], ["/plain/"], ["django_idempotency.E006"]),
        (["plain"], ["/plain/"], ["django_idempotency.W002"]),
        (["missing"], ["/plain/"], ["django_idempotency.W002"]),
    ],
)
def test_subclass_of_the_middleware_counts_as_it(
    entries: list[str], paths: list[str], found: list[str]
) -> None:
    own = [f"{__name__}.{entry}" for entry in entries]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=own, IDEMPOTENCY={"MIDDLEWARE_PATHS": paths}):
        assert [message.id for message in check_middleware(None)] == found


def test_w002_paths_without_the_middleware_guard_nothing() -> None:
    with override_settings(IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/x/"]}):
        (message,) = doors_messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.W002", False)


def checked_handler(cls: type, *decorators: Any, name: str = "post") -> Any:
    """Return a callback whose handler is decorated, as ``method_decorator`` does it."""
    checked: Any = method_decorator(decorators, name=name)(type("Checked", (cls,), {}))
    return checked.as_view()


@pytest.mark.parametrize("door", [idempotent, lambda view: view])
def test_w003_finds_the_permission_on_a_handler_behind_any_door(door: Any) -> None:
    view = door(checked_handler(Mixed if door is not idempotent else Gated, user_passes_test(bool)))
    with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": [path("x/", view)]})):
        (message,) = doors_messages()
    assert message.id == "django_idempotency.W003"


@pytest.mark.parametrize(
    ("view", "found"),
    [
        (permission_required("shop.add_order")(plain), ["django_idempotency.W003"]),
        (checked_handler(Gated, permission_required("shop.add_order")), ["django_idempotency.W003"]),
        (checked_handler(Gated, user_passes_test(bool)), ["django_idempotency.W003"]),
        (checked_handler(Gated, login_required), []),
        (checked_handler(Gated, idempotency_exempt, user_passes_test(bool)), []),
        (checked_handler(Gated, user_passes_test(bool), name="dispatch"), []),
        (csrf_exempt(checked_handler(Gated, user_passes_test(bool))), ["django_idempotency.W003"]),
        (checked_handler(Api, user_passes_test(bool)), ["django_idempotency.W003"]),
        (user_passes_test(bool)(Gated.as_view()), []),
        (
            checked_handler(Answering, user_passes_test(bool), name="dispatch"),
            ["django_idempotency.W003"],
        ),
        (deny_without_wraps(TemplateView.as_view(template_name="x")), []),
        (deny(permission_required("shop.add_order")(plain)), ["django_idempotency.W003"]),
        (login_required(plain), []),
        (idempotency_exempt(permission_required("shop.add_order")(plain)), []),
        (
            method_decorator(idempotent, name="dispatch")(type("V", (Gated,), {})).as_view(),
            ["django_idempotency.E007"],
        ),
    ],
)
def test_checks_that_come_too_late_are_found(view: Any, found: list[str]) -> None:
    urls = type("urls", (), {"urlpatterns": [re_path(r"^x/(\d+)/$", view)]})
    with site("/x/"), override_settings(ROOT_URLCONF=urls):
        assert [message.id for message in doors_messages()] == found
    with site("/y/"), override_settings(ROOT_URLCONF=urls):
        left = {each for each in found if each.endswith("E007")}
        assert {message.id for message in doors_messages()} == {*left, "django_idempotency.W004"}
