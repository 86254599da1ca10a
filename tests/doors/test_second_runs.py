"""A second run of the view, after the database undid the first, finds everything as the first one did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib import messages
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

left: list[OperationalError] = []
opened: list[Any] = []
folder: list[Path] = []


def undone() -> OperationalError:
    error = OperationalError(1213, "deadlock")
    error.__cause__ = type("Cause", (Exception,), {"sqlstate": "40001"})()
    return error


def undo_once() -> None:
    if left:
        raise left.pop()


@idempotent
def save(request: HttpRequest) -> HttpResponse:
    FileSystemStorage(folder[0]).save("x.bin", request.FILES["f"])
    effect()
    undo_once()
    return JsonResponse({}, status=201)


@idempotent
def read(request: HttpRequest) -> HttpResponse:
    with request.FILES["f"] as file:
        file.read()
    effect()
    undo_once()
    return JsonResponse({}, status=201)


@idempotent
def say(request: HttpRequest) -> HttpResponse:
    messages.success(request, "Placed.")
    effect()
    undo_once()
    return JsonResponse({}, status=201)


def said(request: HttpRequest) -> HttpResponse:
    return JsonResponse([str(each) for each in messages.get_messages(request)], safe=False)


def file_response() -> HttpResponse:
    """Return an answer with an open file; the database's error, if there is one, has been swallowed."""
    effect()
    opened.append(Path(__file__).open("rb"))  # noqa: SIM115 (the answer closes it)
    if left:
        connection.rollback_exc = left.pop()
        connection.needs_rollback = True
    return FileResponse(opened[-1])


download = idempotent(lambda request: file_response())


class Api(IdempotencyMixin, APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.lines: list[str] = []


class Spoiling(Api):
    def post(self, request: Request, **kwargs: Any) -> Response:
        self.lines.append("line")
        number = self.kwargs.pop("pk")
        effect()
        undo_once()
        return Response({"pk": number, "lines": self.lines}, status=201)


class Download(Api):
    def post(self, request: Request) -> HttpResponse:
        return file_response()


urlpatterns = [
    path("save/", save),
    path("read/", read),
    path("say/", say),
    path("said/", said),
    path("download/", download),
    path("api-download/", Download.as_view()),
    path("spoiling/<int:pk>/", Spoiling.as_view()),
]


@pytest.fixture(autouse=True)
def _undone_once() -> None:
    opened.clear()
    left[:] = [undone()]


def send(url: str, client: Client | None = None, **data: Any) -> Any:
    client = client or Client(raise_request_exception=False)
    return client.post(url, data, headers={"Idempotency-Key": "k"})


@pytest.mark.parametrize(("url", "size"), [("/save/", 3_000_000), ("/read/", 10), ("/read/", 3_000_000)])
def test_file_that_is_gone_is_503_and_the_retry_runs(
    url: str, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder[:] = [tmp_path]
    answers = [send(url, f=SimpleUploadedFile("x.bin", b"x" * size)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 201]
    assert answers[0].headers["Retry-After"] == "1"
    assert "closed or moved an uploaded file" in caplog.text
    assert (effects(), IdempotencyRecord.objects.count()) == (1, 1)


def test_message_is_shown_once() -> None:
    client = Client()
    assert send("/say/", client).status_code == 201
    assert client.get("/said/").json() == ["Placed."]


def test_second_view_has_arguments_and_lists_of_its_own() -> None:
    assert send("/spoiling/7/").json() == {"pk": 7, "lines": ["line"]}
    assert (left, effects()) == ([], 1)


@pytest.mark.parametrize("url", ["/download/", "/api-download/"])
def test_answer_that_nobody_gets_is_closed(url: str) -> None:
    answer = send(url)
    assert [file.closed for file in opened] == [True, False]
    answer.close()
