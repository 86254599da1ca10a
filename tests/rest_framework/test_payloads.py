"""Multipart through parsers that are not DRF's own: digested, kept, and left for the view to read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from django_idempotency.models import IdempotencyRecord
from tests.views import effects

pytestmark = pytest.mark.django_db(transaction=True)


def upload(path: str, *, content: bytes = b"content", note: str = "x", **options: Any) -> Any:
    file = SimpleUploadedFile("a.txt", content, content_type="text/plain")
    headers = {"Idempotency-Key": "k"}
    return Client(headers=headers, **options).post(path, {"note": note, "password": "s3cr3t", "file": file})


def test_parser_that_takes_any_bytes_gets_multipart_whole() -> None:
    first, retry = upload("/plain/"), upload("/plain/")
    assert first.status_code == 201
    assert first.json()["length"] > len(b"content")
    assert retry.content == first.content
    assert effects() == 1
    assert IdempotencyRecord.objects.get().request_payload is None  # its passwords could not be told apart
    assert upload("/plain/", note="y").status_code == 422


def test_parser_that_nests_is_digested_by_its_leaves_and_leaves_files_unread() -> None:
    first, retry = upload("/nested/"), upload("/nested/")
    fields = {"note": ["x"], "password": ["s3cr3t"]}
    assert (first.status_code, first.json()) == (201, {"fields": fields, "sizes": [7]})
    assert retry.content == first.content
    assert effects() == 1
    for changed in ({"content": b"changed"}, {"note": "y"}):
        assert upload("/nested/", **changed).status_code == 422  # type: ignore[arg-type]


def test_nested_parts_are_kept_redacted_and_files_as_digests() -> None:
    upload("/nested/")
    kept = json.loads(bytes(IdempotencyRecord.objects.get().request_payload or b""))
    names = [part["name"] for part in kept]
    assert names == ["fields[note][0]", "fields[password][0]", "files[0]"]
    assert kept[1]["value"] == "[redacted]"
    assert kept[2].keys() == {"name", "filename", "content_type", "size", "sha256"}
