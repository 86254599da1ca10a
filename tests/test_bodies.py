"""A body is read for its meaning and left for the view."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import RequestFactory, override_settings

from django_idempotency.bodies import multipart_payload, read_payload, rewind

pytestmark = pytest.mark.once


def post(body: Any, kind: str = "application/json", path: str = "/") -> Any:
    return RequestFactory().post(path, body, content_type=kind)


def upload(content: bytes = b"data") -> Any:
    return RequestFactory().post(
        "/", {"title": "t", "file": SimpleUploadedFile("a.txt", content, "text/plain")}
    )


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("application/json", b'{"a":1}', b' {"a": 1}'),
        ("application/problem+json; charset=utf-8", b'{"a":1}', b' {"a": 1}'),
        ("application/x-www-form-urlencoded", b"a=1&b=2", b"b=2&a=1"),
    ],
)
def test_same_meaning_is_the_same_payload(kind: str, one: bytes, other: bytes) -> None:
    assert read_payload(post(one, kind)).digest == read_payload(post(other, kind)).digest


def test_media_type_query_and_raw_bytes_count() -> None:
    payloads = [post(b"{}"), post(b"{}", "text/plain"), post(b"{} ", "text/plain"), post(b"{}", path="/?a=1")]
    assert len({read_payload(request).digest for request in payloads}) == 4


def test_body_is_left_for_the_view() -> None:
    request = post(b'{"a":1}')
    read_payload(request)
    assert request.body == b'{"a":1}'


def test_large_body_is_spooled_and_can_be_read_again() -> None:
    body = b"z" * 3_000_000
    request = post(body, "application/octet-stream")
    payload = read_payload(request)
    assert payload.kept is None
    assert request.read() == body
    rewind(request)
    assert request.read() == body
    assert read_payload(post(body + b"!", "application/octet-stream")).digest != payload.digest


def test_file_is_left_at_its_start_and_rewound() -> None:
    request = upload()
    payload = multipart_payload(request)
    assert request.FILES["file"].read() == b"data"
    rewind(request)
    assert request.FILES["file"].read() == b"data"
    assert multipart_payload(upload()).digest == payload.digest != multipart_payload(upload(b"date")).digest
    assert b"data" not in (payload.kept or b"")


@override_settings(IDEMPOTENCY={"MAX_BODY_BYTES": 5})
def test_what_is_kept_is_bounded() -> None:
    assert read_payload(post(b"12345", "text/plain")).kept == b"12345"
    assert read_payload(post(b"123456", "text/plain")).kept is None


@override_settings(IDEMPOTENCY={"STORE_REQUEST_PAYLOAD": False})
def test_nothing_is_kept_if_so_set() -> None:
    assert read_payload(post(b"{}")).kept is None
    assert multipart_payload(upload()).kept is None
