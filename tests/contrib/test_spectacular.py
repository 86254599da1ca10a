"""The OpenAPI schema of guarded operations, for every kind of view and every place of ``@extend_schema``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import include, path
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from drf_spectacular.validation import validate_schema
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.decorators import action, api_view
from rest_framework.generics import ListCreateAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import CharField, Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.contrib.spectacular import IdempotentViews
from django_idempotency.core.keys import parse_key
from django_idempotency.exceptions import KeyInvalid
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Order
from example_project.shop.serializers import OrderSerializer
from example_project.stage import gunicorn
from tests.factories import ProductFactory, TokenFactory, WalletFactory

pytestmark = pytest.mark.once


class NoteSerializer(Serializer[Any]):
    note = CharField()


class Plain(IdempotencyMixin, APIView):
    """What the view says of itself."""

    serializer_class = NoteSerializer

    def post(self, request: Request) -> Response:
        return Response()

    put = get = patch = post


class Generic(IdempotencyMixin, ListCreateAPIView[Order]):
    serializer_class = OrderSerializer
    queryset = Order.objects.all()


class OnMethod(Plain):
    @extend_schema(description="Said on the method.", responses={201: NoteSerializer})
    def post(self, request: Request) -> Response:
        return Response()


@extend_schema(description="Said on the class.", responses={201: NoteSerializer})
class OnClass(Plain):
    pass


@extend_schema_view(post=extend_schema(description="Said for the method.", responses={201: NoteSerializer}))
class ForMethod(Plain):
    pass


class Raw(Plain):
    @extend_schema(operation={"operationId": "raw", "responses": {"200": {"description": "Said raw."}}})
    def post(self, request: Request) -> Response:
        return Response()


class Orders(IdempotencyMixin, ModelViewSet[Order]):
    serializer_class = OrderSerializer
    queryset = Order.objects.all()

    @action(detail=True, methods=["post"])
    def bare(self, request: Request, pk: str) -> Response:
        return Response()

    @extend_schema(description="Said above.", responses={201: NoteSerializer})
    @action(detail=True, methods=["post"])
    def above(self, request: Request, pk: str) -> Response:
        return Response()

    @action(detail=True, methods=["post"])
    @extend_schema(description="Said below.", responses={201: NoteSerializer})
    def below(self, request: Request, pk: str) -> Response:
        return Response()


class Unmarked(ViewSet):
    serializer_class = NoteSerializer

    def create(self, request: Request) -> Response:
        return Response()


@extend_schema(request=NoteSerializer, responses={201: NoteSerializer})
@api_view(["POST"])
def function(request: Request) -> Response:
    return Response()


router = SimpleRouter()
router.register("orders", Orders)
router.register("unmarked", Unmarked, basename="unmarked")
unmarked_router = SimpleRouter()
unmarked_router.register("unmarked", Unmarked, basename="unmarked")
PATTERNS = [
    path("plain/", Plain.as_view()),
    path("generic/", Generic.as_view()),
    path("on-method/", OnMethod.as_view()),
    path("on-class/", OnClass.as_view()),
    path("for-method/", ForMethod.as_view()),
    path("raw/", Raw.as_view()),
    path("function/", function),
    path("", include(router.urls)),
]


def schema_of(*patterns: Any) -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator(patterns=list(patterns)).get_schema(public=True)
    validate_schema(schema)
    return schema


def operation(view: type[Any], method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = schema_of(path("x/", view.as_view()))["paths"]["/x/"][method]
    return found


def header(operation: dict[str, Any]) -> dict[str, Any] | None:
    named = [each for each in operation.get("parameters", []) if each["in"] == "header"]
    assert len(named) <= 1
    return named[0] if named else None


GUARDED = [
    ("/plain/", "post", "What the view says of itself.", "200"),
    ("/plain/", "patch", "What the view says of itself.", "200"),
    ("/generic/", "post", "", "201"),
    ("/on-method/", "post", "Said on the method.", "201"),
    ("/on-method/", "patch", "What the view says of itself.", "200"),
    ("/on-class/", "post", "Said on the class.", "201"),
    ("/for-method/", "post", "Said for the method.", "201"),
    ("/raw/", "post", "", "200"),
    ("/orders/", "post", "", "201"),
    ("/orders/{id}/", "patch", "", "200"),
    ("/orders/{id}/bare/", "post", "", "200"),
    ("/orders/{id}/above/", "post", "Said above.", "201"),
    (
        "/orders/{id}/below/",
        "post",
        "",
        "200",
    ),  # @action undoes what stands below it, for drf-spectacular too
]


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    found: dict[str, Any] = schema_of(*PATTERNS)["paths"]
    return found


@pytest.mark.parametrize(("where", "method", "said", "success"), GUARDED)
def test_guarded_operation_says_what_a_client_must_know(
    paths: dict[str, Any], where: str, method: str, said: str, success: str
) -> None:
    found = paths[where][method]
    assert found["description"].startswith(said)
    assert "The key counts for 86400 seconds" in found["description"]
    parameter = header(found)
    assert parameter is not None
    assert (parameter["name"], parameter["required"]) == ("Idempotency-Key", False)
    assert parameter["schema"]["maxLength"] == 255
    responses = found["responses"]
    assert "Idempotent-Replayed" in responses[success]["headers"]
    for code in ("400", "409", "422", "503"):
        content = responses[code]["content"]["application/problem+json"]
        assert content == {"schema": {"$ref": "#/components/schemas/IdempotencyProblem"}}
        assert ("Retry-After" in responses[code].get("headers", {})) == (code in ("409", "503"))


def test_every_other_operation_is_left_alone(paths: dict[str, Any]) -> None:
    guarded = {(where, method) for where, method, *_ in GUARDED}
    inherited = {(f"/{name}/", "patch") for name in ("on-class", "for-method", "raw")}
    for where, methods in paths.items():
        for method, found in methods.items():
            if (where, method) not in guarded | inherited:
                assert "dempoten" not in str(found), (where, method)


def in_bytes(*patterns: Any) -> bytes:
    """Return a schema as drf-spectacular serves it."""
    rendered: bytes = OpenApiYamlRenderer().render(schema_of(*patterns), renderer_context={})
    return rendered


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function as if this extension did not exist."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        with monkeypatch.context() as patch:
            registry = [each for each in OpenApiViewExtension._registry if each is not IdempotentViews]
            patch.setattr(OpenApiViewExtension, "_registry", registry)
            return function(*args)

    return call


def test_schema_of_unmarked_views_is_the_same_to_the_byte(alone: Callable[..., Any]) -> None:
    class Documented(ListCreateAPIView[Order]):
        """In words of its own."""

        serializer_class = OrderSerializer
        queryset = Order.objects.all()

    unmarked = [
        path("", include(unmarked_router.urls)),
        path("documented/", extend_schema(tags=["own"])(Documented).as_view()),
        path("function/", function),
        path("tokens/", obtain_auth_token),
    ]
    assert in_bytes(*unmarked) == alone(in_bytes, *unmarked)
    assert in_bytes(*PATTERNS) != alone(in_bytes, *PATTERNS)


def test_unmarked_operations_are_the_same_beside_marked_ones(alone: Callable[..., Any]) -> None:
    ours, theirs = schema_of(*PATTERNS), alone(schema_of, *PATTERNS)
    assert ours["components"]["schemas"].pop("IdempotencyProblem")
    for where in ("/unmarked/", "/function/"):
        assert json.dumps(ours["paths"][where]) == json.dumps(theirs["paths"][where])
    assert ours["components"] == theirs["components"]


def test_docstring_of_the_mixin_describes_no_view(paths: dict[str, Any]) -> None:
    assert "description" not in paths["/generic/"]["get"]
    assert paths["/generic/"]["post"]["description"].startswith("Requests with the same idempotency key")


def test_names_and_answers_of_the_view_stay(paths: dict[str, Any]) -> None:
    assert paths["/on-method/"]["post"]["operationId"] == "on_method_create"
    assert paths["/orders/"]["post"]["tags"] == ["orders"]
    answer = paths["/orders/{id}/above/"]["post"]["responses"]["201"]["content"]["application/json"]
    assert answer == {"schema": {"$ref": "#/components/schemas/Note"}}


def test_settings_of_view_and_project_are_followed(settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "HEADER": ["X-Idempotency-Key"],
        "KEY_FORMAT": "strict",
        "KEY_MAX_LENGTH": 36,
        "METHODS": ["PUT"],
        "REPLAY_HEADER": "X-Replayed",
        "ERROR_FORMAT": "json",
        "DOCUMENTATION_URL": "https://example.com/idempotency",
    }

    class View(Plain):
        idempotency_required = True
        idempotency_retention = timedelta(minutes=90)
        idempotency_store_body = False

    found = operation(View, "put")
    parameter = header(found)
    assert parameter is not None
    assert (parameter["name"], parameter["required"]) == ("X-Idempotency-Key", True)
    assert parameter["schema"]["maxLength"] == 38
    assert re.fullmatch(parameter["schema"]["pattern"], '"abc"')
    assert "5400 seconds after" in found["description"]
    assert "<https://example.com/idempotency>" in found["description"]
    assert {"X-Replayed", "Idempotent-Body-Omitted"} == set(found["responses"]["200"]["headers"])
    assert set(found["responses"]["422"]["content"]) == {"application/json"}
    assert "dempoten" not in str(operation(View, "post"))


def test_methods_of_one_view_are_followed() -> None:
    class View(Plain):
        idempotency_methods = ("PUT",)

    assert header(operation(View, "put"))
    assert header(operation(View, "post")) is None


def test_what_the_view_says_itself_is_kept() -> None:
    class View(Plain):
        @extend_schema(
            parameters=[
                OpenApiParameter("idempotency-key", str, OpenApiParameter.HEADER, description="Ours.")
            ],
            responses={200: None, 409: OpenApiResponse(NoteSerializer, description="Our conflict.")},
        )
        def post(self, request: Request) -> Response:
            return Response()

    found = operation(View)
    parameter = header(found)
    assert parameter is not None
    assert parameter["description"] == "Ours."
    assert found["responses"]["409"]["description"] == "Our conflict."
    assert set(found["responses"]["409"]["content"]) == {"application/json", "application/problem+json"}


def test_view_that_finds_its_key_elsewhere_has_no_header() -> None:
    class View(Plain):
        def get_idempotency_key(self, request: Request) -> str | None:
            return None

    found = operation(View)
    assert header(found) is None
    assert "422" in found["responses"]


def test_shape_of_errors_is_left_open_where_the_project_shapes_them(settings: Any) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": "tests.views.own_handler"}
    found = operation(Plain)
    assert "content" not in found["responses"]["409"]
    assert "Retry-After" in found["responses"]["409"]["headers"]


def test_excluded_operation_stays_excluded() -> None:
    class View(Plain):
        @extend_schema(exclude=True)
        def post(self, request: Request) -> Response:
            return Response()

    assert "post" not in schema_of(path("x/", View.as_view()))["paths"]["/x/"]


@pytest.fixture
def fixed() -> Iterator[type[Plain]]:
    """Yield a view that an extension of the project replaces."""

    class View(Plain):
        pass

    class Fix(OpenApiViewExtension):  # type: ignore[no-untyped-call]
        target_class: Any = View

        def view_replacement(self) -> Any:
            class Fixed(self.target):  # type: ignore[name-defined,misc]
                @extend_schema(description="Said by the project.", responses=OpenApiTypes.STR)
                def post(self, request: Request) -> Response:
                    return Response()

            return Fixed

    yield View
    OpenApiViewExtension._registry.remove(Fix)


def test_extension_of_the_project_is_heard_too(fixed: type[Plain]) -> None:
    found = operation(fixed)
    assert found["description"].startswith("Said by the project.")
    assert header(found)


KEYS = ["8e03978e-40d5-43dd-bc93-6894a57f9324", "a", "!", "a" * 255]
OTHERS = [
    'a"b',
    "a,b",
    "",
    " ",
    "a b",
    "é",
    '"',
    ",",
    "\x7f",
]


@pytest.mark.parametrize("key", KEYS + OTHERS)
@pytest.mark.parametrize("strict", [False, True])
def test_pattern_lets_only_keys_pass_that_are_taken(settings: Any, key: str, strict: bool) -> None:
    settings.IDEMPOTENCY = {"KEY_FORMAT": "strict" if strict else "lenient"}
    value = f'"{key}"' if strict else key
    parameter = header(operation(Plain))
    assert parameter is not None
    limits = parameter["schema"]
    length = limits["minLength"] <= len(value) <= limits["maxLength"]
    if length and re.search(limits["pattern"], value):
        assert parse_key(value, strict=strict) == key
    elif key in KEYS:
        pytest.fail("a good key does not match")
    elif not strict and key != "a,b":
        with pytest.raises(KeyInvalid):
            parse_key(value)


def test_schema_of_the_example_project_is_valid_and_free_of_warnings() -> None:
    options = ["--validate", "--fail-on-warn", "--file", os.devnull]
    call_command("spectacular", "--urlconf", "example_project.urls", *options)


@pytest.fixture
def shop(tmp_path: Any) -> Iterator[tuple[int, str]]:
    name = str(connection.settings_dict["NAME"])
    own = {"DATABASE_NAME": name, "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    with gunicorn({**os.environ, **own}, tmp_path / "gunicorn.log", threads=4) as port:
        yield port, TokenFactory().key


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(300)
def test_schemathesis_finds_no_server_error(shop: tuple[int, str], tmp_path: Any) -> None:
    port, token = shop
    ProductFactory(pk=1, stock=10_000)
    WalletFactory()
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/api/schema/"]
    options = ["--checks=not_a_server_error", "--max-examples=15", "--phases=examples,coverage,fuzzing"]
    header = ["-H", f"Authorization: Token {token}", "--no-color"]
    done = subprocess.run([*command, *options, *header], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    sent = IdempotencyRecord.objects.filter(scope__startswith="user:").count()
    assert sent > 5, done.stdout[-5000:]
