"""Views inside partials, objects and tables, and callbacks with arguments of their own: never guessed at by a door."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
from django.conf import settings as project
from django.core.checks import run_checks
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views import View
from django.views.decorators.cache import cache_page

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.models import IdempotencyRecord
from tests.doors.conftest import MIDDLEWARE, replayed
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

shut: list[bool] = []


@pytest.fixture(autouse=True)
def open_gate() -> None:
    shut.clear()


def is_open(request: HttpRequest) -> bool:
    return not shut


class Gated(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if shut:
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


class Needing(View):
    """Takes a permission by ``as_view()``, where ``initkwargs`` do not tell of it."""

    @classmethod
    def as_view(cls, *, needs: Callable[[HttpRequest], bool] | None = None, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)

        @wraps(view)
        def check(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if needs is not None and not needs(request):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return check

    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


class Caching(Gated):
    """Wraps each of its callbacks with an object of its own, which is like any other's."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return cache_page(60)(super().as_view(**initkwargs))


class Node:
    """Holds the next one twice."""

    def __init__(self, depth: int) -> None:
        self.left = self.right = Node(depth - 1) if depth else None


class Entangled(Gated):
    """Wraps each callback with a graph that has more paths than anybody can follow."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view, graph = super().as_view(**initkwargs), Node(60)

        @wraps(view)
        def call(request: HttpRequest) -> Any:
            return view(request) if graph else None

        return call


class Named(Gated):
    """Does not let itself be subclassed without a name."""

    def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)


class Registered(Named, name="registered"):
    pass


class Holder:
    """Calls the view that it holds, by a method."""

    def __init__(self, view: Any) -> None:
        self.view = view

    def handle(self, request: HttpRequest) -> Any:
        return self.view(request)


class Slotted:
    __slots__ = ("view",)

    def __init__(self, view: Any) -> None:
        self.view = view

    def __call__(self, request: HttpRequest) -> Any:
        return self.view(request)


def calling(request: HttpRequest, view: Any) -> Any:
    return view(request)


def by_table(view: Any) -> Any:
    table = {"POST": [view]}
    return lambda request: table[request.method][0](request)


def by_default(view: Any) -> Any:
    def call(request: HttpRequest, view: Any = view) -> Any:
        return view(request)

    return call


def by_another_table(view: Any) -> Any:
    """Call the view by a table, though a copy would find another way to it."""
    table = {"POST": view}

    @wraps(view)
    def call(request: HttpRequest) -> Any:
        return table.get(request.method or "", view)(request)

    return call


def by_an_object(view: Any) -> Any:
    holder = Holder(view)

    @wraps(view)
    def call(request: HttpRequest) -> Any:
        return view(request) if request.GET else holder.handle(request)

    return call


def by_a_global(view: Any) -> Any:
    """Call the view in a way that nobody finds."""
    HIDING.append(view)

    @wraps(view)
    def call(request: HttpRequest) -> Any:
        return view(request) if request.GET else HIDING[-1](request)

    return call


def unwrapped(view: Any) -> Any:
    def call(request: HttpRequest) -> Any:
        return view(request)

    return call


@idempotent(store_body=False)
def secret(request: HttpRequest, **options: Any) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


@idempotency_exempt
def login(request: HttpRequest, **options: Any) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


def function(request: HttpRequest, **options: Any) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


HIDING: list[Any] = []
HIDDEN = {
    "partial": partial(calling, view=Gated.as_view()),
    "partial-argument": partial(lambda view, request: view(request), Gated.as_view()),
    "slots": Slotted(Gated.as_view()),
    "method": Holder(Gated.as_view()).handle,
    "table": by_table(Gated.as_view()),
    "default": by_default(Gated.as_view()),
    "two-ways-table": by_another_table(Gated.as_view()),
    "two-ways-object": by_an_object(Gated.as_view()),
    "as-view-with-a-permission": Needing.as_view(needs=is_open),
    "no-subclass": Registered.as_view(),
}
MARKED = {
    "secret": secret,
    "secret-partial": partial(secret, option=1),
    "secret-unwrapped": unwrapped(secret),
    "secret-twice": partial(unwrapped(secret)),
}
EXEMPT = {"login": login, "login-partial": partial(login, option=1), "login-unwrapped": unwrapped(login)}
SEEN = {
    "function": partial(function, option=1),
    "as-view": Needing.as_view(),
    "as-view-with-an-object": Caching.as_view(),
    "as-view-with-a-graph": Entangled.as_view(),
    "as-view-with-arguments": Gated.as_view(http_method_names=["post"]),
}
urlpatterns = [path(f"{name}/", view) for name, view in {**HIDDEN, **MARKED, **EXEMPT, **SEEN}.items()]
urlpatterns.append(path("global/", by_a_global(Gated.as_view())))


@pytest.fixture(autouse=True)
def site() -> Any:
    middleware = [*project.MIDDLEWARE, MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware, IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/"]}):
        yield


def send(name: str, key: str | None = "k") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return Client(raise_request_exception=False).post(f"/{name}/", headers=headers)


def found() -> set[str]:
    """Return the names of the views that E007 names."""
    messages = [each.msg for each in run_checks() if each.id == "django_idempotency.E007"]
    return {message.split("/")[1] for message in messages}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_class_is_left_alone_with_all_its_checks(name: str) -> None:
    assert [replayed(send(name)) for _ in range(2)] == [False, False]
    assert effects() == 2
    shut.append(True)
    assert [send(name, key).status_code for key in ("k", None)] == [403, 403]


def test_e007_names_the_hidden_ones_and_nothing_else() -> None:
    assert found() == {*HIDDEN}


@pytest.mark.parametrize("name", SEEN)
def test_what_is_seen_is_guarded(name: str) -> None:
    assert [replayed(send(name)) for _ in range(2)] == [False, True]
    assert effects() == 1


@pytest.mark.parametrize("name", MARKED)
def test_options_of_a_decorated_function_hold_inside_a_partial_or_a_wrapper(name: str) -> None:
    assert [replayed(send(name)) for _ in range(2)] == [False, True]
    assert [record.response_body for record in IdempotencyRecord.objects.all()] == [None]


@pytest.mark.parametrize("name", EXEMPT)
def test_exemption_holds_inside_a_partial_or_a_wrapper(name: str) -> None:
    assert [replayed(send(name)) for _ in range(2)] == [False, False]
    assert IdempotencyRecord.objects.count() == 0


def test_way_that_nobody_finds_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert send("global").status_code == 201
    assert "past its guarded handler" in caplog.text


def test_decorator_refuses_a_callback_whose_arguments_it_would_lose() -> None:
    with pytest.raises(TypeError, match="cannot see what is wrapped"):
        idempotent(Needing.as_view(needs=is_open))
