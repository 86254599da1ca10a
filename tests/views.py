"""Views that have an effect, and then do what the test asks for.

The effect of every view here is one Product, so ``Product.objects.count()`` tells how often it happened.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException, NotAuthenticated, Throttled, ValidationError
from rest_framework.parsers import BaseParser, FormParser, JSONParser, MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Product


def effect(name: str = "effect") -> int:
    """Have the effect, and return its number: no two runs answer alike."""
    return Product.objects.create(name=name, price="1.00", stock=1).pk


def effects() -> int:
    """Return how many effects are committed."""
    return Product.objects.count()


def _raise(error: Exception) -> Any:
    raise error


def _mark_for_rollback(request: Request) -> Response:
    transaction.set_rollback(True)
    return Response({"id": 0}, status=201)


def _swallow(request: Request) -> Response:
    """Let a database error pass unnoticed, as ``except Exception: pass`` does."""
    with suppress(IntegrityError):
        Product.objects.create(pk=Product.objects.latest("pk").pk, name="twin", price="1.00", stock=1)
    return Response({"id": 0}, status=201)


def _download(request: Request) -> HttpResponse:
    headers = {
        "Content-Disposition": "attachment; filename=x.bin",
        "X-Internal": "1",
        "Set-Cookie": "a=b",
        "Access-Control-Allow-Origin": "*",
    }
    response = HttpResponse(b"\x00\xff\x00", content_type="application/octet-stream", headers=headers)
    response.set_cookie("session", "secret")
    return response


ACTS: dict[str, Callable[[Request], Any]] = {
    "create": lambda request: Response({"id": Product.objects.latest("pk").pk}, status=201),
    "crash": lambda request: _raise(RuntimeError("accident")),
    "invalid": lambda request: _raise(
        ValidationError({"detail": f"number {Product.objects.latest('pk').pk}"})
    ),
    "missing": lambda request: _raise(Http404()),
    "denied": lambda request: _raise(PermissionDenied()),
    "unauthenticated": lambda request: _raise(NotAuthenticated()),
    "throttled": lambda request: _raise(Throttled(wait=3)),
    "mark": _mark_for_rollback,
    "swallow": _swallow,
    "empty": lambda request: Response(status=204),
    "download": _download,
    "stream": lambda request: StreamingHttpResponse([b"a", b"b"], content_type="text/plain"),
    "large": lambda request: HttpResponse(b"x" * 2_000_000),
    "nothing": lambda request: None,
}


class ProbeView(IdempotencyMixin, APIView):
    """Has its effect, then does ``act``: a name of ACTS, or a status to return."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request, act: str) -> HttpResponseBase:
        number = effect()
        if act.isdecimal():
            return Response({"id": number}, status=int(act))
        response: HttpResponseBase = ACTS[act](request)
        return response

    patch = post
    put = post
    delete = post

    def get(self, request: Request, act: str) -> Response:
        return Response({"effects": effects()})


class OwnedView(IdempotencyMixin, APIView):
    """Lets only the number's owner in, and asks again before a replay."""

    owners: dict[int, int] = {}

    def post(self, request: Request, pk: int) -> Response:
        self.authorize_idempotent_replay(request, pk=pk)
        return Response({"id": effect()}, status=201)

    def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if self.owners.get(kwargs["pk"]) != request.user.pk:
            raise PermissionDenied


class UploadView(IdempotencyMixin, APIView):
    """Tells what reached it, by any parser."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes: tuple[type[BaseParser], ...] = (MultiPartParser, JSONParser)

    def post(self, request: Request) -> Response:
        effect()
        files = {name: len(file.read()) for name, file in request.FILES.items()}
        fields = {name: request.data.getlist(name) for name in request.data if name not in files}
        return Response({"files": files, "fields": fields}, status=201)

    patch = post


class _RawParser(BaseParser):
    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> bytes:
        content: bytes = stream.read()
        return content


class PlainView(UploadView):
    """Takes any bytes."""

    parser_classes = (_RawParser,)

    def post(self, request: Request) -> Response:
        effect()
        return Response({"length": len(request.data)}, status=201)

    patch = post


class _NestingParser(MultiPartParser):
    """Gives fields and files in one nested structure, as several packages do."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        parsed: Any = super().parse(stream, media_type, parser_context)
        return {"fields": dict(parsed.data.lists()), "files": list(parsed.files.values())}


class NestedView(UploadView):
    """Takes multipart by a parser of its own."""

    parser_classes = (_NestingParser,)

    def post(self, request: Request) -> Response:
        effect()
        sizes = [len(file.read()) for file in request.data["files"]]
        return Response({"fields": request.data["fields"], "sizes": sizes}, status=201)


class FormView(IdempotencyMixin, APIView):
    """Reads its key from a field of the body, and keeps no answer bodies."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (FormParser, JSONParser)
    idempotency_store_body = False
    idempotency_ignore_fields = ("trace",)

    def get_idempotency_key(self, request: Request) -> str | None:
        key: str | None = request.data.get("key") if isinstance(request.data, dict) else None
        return key

    def post(self, request: Request) -> Response:
        return Response({"id": effect()}, status=201)


class EchoView(IdempotencyMixin, APIView):
    """Answers with what it was sent, and the number of its effect, which has the name of its note."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        name = str(request.data.get("note", "effect"))
        return Response({**request.data, "id": effect(name)}, status=201)


class AnyView(IdempotencyMixin, APIView):
    """Takes whatever DRF's own parsers take, and reads it."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (JSONParser, FormParser, MultiPartParser)

    def post(self, request: Request, rest: str = "") -> Response:
        return Response({"id": effect(), "read": ascii(request.data)[:100]}, status=201)

    patch = post


def own_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Shape errors as a project does that has a style of its own."""
    response = exception_handler(error, context)
    if response is not None:
        response.data = {"error": error.get_full_details() if isinstance(error, APIException) else str(error)}
    return response


def adding_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Add to DRF's answer, as the example in DRF's documentation does."""
    response = exception_handler(error, context)
    if response is not None:
        response.data["status_code"] = response.status_code
    return response
