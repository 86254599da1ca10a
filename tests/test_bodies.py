"""A body is read for its meaning and left for the view."""

from __future__ import annotations

import hashlib
import json
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from django.test.client import encode_multipart

from django_idempotency import bodies
from django_idempotency.bodies import FORM, multipart_payload, read_payload
from django_idempotency.core.fingerprints import Part, canonical_multipart
from django_idempotency.core.payloads import Redactor
from django_idempotency.guards import Policy
from django_idempotency.models import IdempotencyRecord
from django_idempotency.options import Options
from django_idempotency.restarts import Restart, rewind

pytestmark = pytest.mark.once


def post(body: Any, kind: str = "application/json", path: str = "/") -> Any:
    return RequestFactory().post(path, body, content_type=kind)


def upload(content: bytes = b"data", boundary: str = "one", **changes: Any) -> Any:
    file = SimpleUploadedFile(changes.pop("name", "a.txt"), content, changes.pop("kind", "text/plain"))
    body = encode_multipart(boundary, {"title": "t", "file": file, **changes})
    return post(body, f"multipart/form-data; boundary={boundary}")


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


def test_digest_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    monkeypatch.setattr(bodies, "canonical_json", lambda body, ignore: made.append(body))
    payload = read_payload(post(b'{"a": 1}'))
    assert (payload.kept, made) == (b'{"a": 1}', [])
    assert payload.digest == payload.digest
    assert made == [b'{"a": 1}']


def test_media_type_query_and_raw_bytes_count() -> None:
    requests = [post(b"{}"), post(b"{}", "text/plain"), post(b"{}", "text/csv"), post(b"{} ", "text/csv")]
    requests.append(post(b"{}", path="/?a=1"))
    assert len({read_payload(request).digest for request in requests}) == 5


def test_small_body_cannot_imitate_a_large_one() -> None:
    large = b"z" * 3_000_000
    small = post(hashlib.sha256(large).digest(), "text/plain")
    assert read_payload(small).digest != read_payload(post(large, "text/plain")).digest


def test_raw_body_cannot_imitate_a_parsed_one() -> None:
    kind = "multipart/form-data; boundary=one"
    raw, parsed = (
        post(canonical_multipart([Part("a", "1")]), kind),
        post(encode_multipart("one", {"a": "1"}), kind),
    )
    assert read_payload(raw).digest != multipart_payload(parsed).digest


def test_json_that_cannot_be_read_counts_by_its_bytes() -> None:
    payloads = [read_payload(post(body)).digest for body in (b"{", b"{ ", b"{")]
    assert payloads[0] == payloads[2] != payloads[1]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("application/json", b'{"a":1,"t":1}', b'{"t":2,"a":1}'),
        ("application/x-www-form-urlencoded", b"a=1&t=1", b"t=2&a=1"),
    ],
)
def test_ignored_fields_do_not_count(kind: str, one: bytes, other: bytes) -> None:
    first, second = post(one, kind), post(other, kind)
    assert read_payload(first, ["t"]).digest == read_payload(second, ["t"]).digest
    assert read_payload(first).digest != read_payload(second).digest


def test_body_is_left_for_the_view() -> None:
    request = post(b'{"a":1}')
    read_payload(request)
    for _ in range(2):
        assert request.body == request.read() == b'{"a":1}'
        rewind(request)


def test_body_that_somebody_has_read_still_counts() -> None:
    form = post(b"a=1", "application/x-www-form-urlencoded")
    assert form.POST["a"] == "1"
    assert read_payload(form).digest == read_payload(post(b"a=1", form.content_type)).digest
    rewind(form)
    assert form.POST["a"] == "1"


@pytest.mark.parametrize(
    ("kind", "body", "kept"),
    [
        ("application/json", b'{"pin": 1, "a": 2}', b'{"pin": "[redacted]", "a": 2}'),
        ("application/x-www-form-urlencoded", b"pin=1&a=2", b"pin=%5Bredacted%5D&a=2"),
        ("application/json", b'{"card": [{"number": 4}]}', b'{"card": [{"number": "[redacted]"}]}'),
        ("application/json", b'{"card": {"name": 4}, "number": 4}', b'{"card": {"name": 4}, "number": 4}'),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        ("application/json", b'{"password": "hunter2",}', None),
        ("application/vnd.api+json", b'{"password": "hunter2", "n": ' + b"9" * 5000 + b"}", None),
    ],
)
def test_secrets_are_not_kept(kind: str, body: bytes, kept: bytes | None) -> None:
    assert read_payload(post(body, kind)).kept == kept


def test_large_body_is_spooled_and_can_be_read_again() -> None:
    body = b"z" * 3_000_000
    request = post(body, "application/octet-stream")
    payload = read_payload(request)
    assert payload.kept is None
    assert request.read() == body
    rewind(request)
    assert request.read() == body
    rewind(request)
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        assert request.body == body
    assert read_payload(post(body, "application/octet-stream")).digest == payload.digest
    assert read_payload(post(body + b"!", "application/octet-stream")).digest != payload.digest


def test_large_body_under_asgi_is_read_from_its_start() -> None:
    body = b"z" * 3_000_000
    request: Any = AsyncRequestFactory().post("/", body, content_type="application/octet-stream")
    with SpooledTemporaryFile(max_size=10) as stream:  # as Django's ASGIHandler makes it
        stream.write(body)
        request._stream = stream
        digest = read_payload(request).digest
    assert digest == read_payload(post(body, "application/octet-stream")).digest
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        assert request.body == body


def test_file_is_left_at_its_start_and_rewound() -> None:
    request = upload()
    payload = multipart_payload(request)
    assert request.FILES["file"].read() == b"data"
    rewind(request)
    assert request.FILES["file"].read() == b"data"
    assert b"data" not in (payload.kept or b"")


class Session(SessionBase):
    """Reads one visit from its store."""

    def load(self) -> dict[str, Any]:
        return {"visits": [1]}


@pytest.mark.parametrize("changed", [False, True], ids=["as stored", "changed before"])
def test_restart_finds_the_session_as_it_was_before_the_first_run(changed: bool) -> None:
    request = post({})
    request.session = Session("stored-session")
    assert request.session["visits"] == [1]  # a middleware has looked at it
    if changed:
        request.session["visits"] = [1, 2]
    before = request.session.modified
    restart = Restart(request)
    for _ in range(2):  # and once more: a second roll-back is no less one
        request.session["visits"].append("spoiled")
        request.session["more"] = request.extra = "spoiled"
        restart.restore()
        assert dict(request.session.items()) == {"visits": [1, 2] if changed else [1]}
        assert request.session.modified is before
        assert not hasattr(request, "extra")


def test_boundary_does_not_count() -> None:
    one, other = upload(), upload(boundary="two")
    assert one.content_params != other.content_params
    assert multipart_payload(one).digest == multipart_payload(other).digest


@pytest.mark.parametrize(
    "change", [{"content": b"date"}, {"name": "b.txt"}, {"kind": "text/csv"}, {"title": "u"}, {"more": "1"}]
)
def test_every_part_of_an_upload_counts(change: dict[str, Any]) -> None:
    assert multipart_payload(upload()).digest != multipart_payload(upload(**change)).digest


def test_ignored_parts_do_not_count_and_secret_ones_are_not_kept() -> None:
    one, other = (multipart_payload(upload(pin=pin), ["pin"]) for pin in ("hunter1", "hunter2"))
    assert one.digest == other.digest
    assert b"hunter" not in (one.kept or b"hunter")


def test_files_that_a_form_parser_left_among_the_fields_count_once() -> None:
    request = upload()
    mixed = post(b"x", request.content_type)
    mixed._post, mixed._files = request.POST.copy(), request.FILES
    mixed._post["file"] = request.FILES["file"]
    assert multipart_payload(mixed).digest == multipart_payload(upload()).digest
    names = [part["name"] for part in json.loads(multipart_payload(mixed).kept or b"")]
    assert names == ["title", "file"]


@override_settings(IDEMPOTENCY={"MAX_BODY_BYTES": 5})
def test_what_is_kept_is_bounded() -> None:
    assert read_payload(post(b"12345", "text/plain")).kept == b"12345"
    assert read_payload(post(b"123456", "text/plain")).kept is None
    assert multipart_payload(upload()).kept is None


@override_settings(IDEMPOTENCY={"STORE_REQUEST_PAYLOAD": False})
def test_nothing_is_kept_if_so_set() -> None:
    assert read_payload(post(b"{}")).kept is None
    assert multipart_payload(upload()).kept is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"password": "hunter2",}'),
        ("application/json", b'{"password": "hunter2", "n": ' + b"9" * 5000 + b"}"),
        ("multipart/form-data; boundary=b", b"--b\r\nname=password\r\n\r\nhunter2\r\n--b--"),
    ],
)
def test_body_that_should_be_redacted_and_cannot_be_read_is_not_kept(kind: str, body: bytes) -> None:
    payload = read_payload(post(body, kind))
    assert payload.kept is None
    assert payload.digest != read_payload(post(body + b" ", kind)).digest


@pytest.mark.parametrize("path", ["/echo/", "/upload/"])
@pytest.mark.django_db(transaction=True)
def test_payload_is_redacted_when_a_claim_writes_it_and_not_for_a_replay(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    hides = Redactor.hides
    monkeypatch.setattr(Redactor, "hides", lambda self, name: asked.append(name) or hides(self, name))
    client = Client(headers={"Idempotency-Key": "k"})
    for _ in range(2):
        if path == "/echo/":
            answer = client.post(path, b'{"note":"n"}', content_type="application/json")
        else:
            answer = client.post(path, {"note": "n"})
        assert answer.status_code == 201
    assert asked == ["note"]
    assert b"note" in bytes(IdempotencyRecord.objects.get().request_payload or b"")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_json_is_json_by_whatever_name_it_comes(kind: str) -> None:
    """Views that parse the body do not ask for its name; as a form, + would be a space, and a text only a name."""
    one, other = (post(json.dumps({"text": text, "password": "s3cret"}), kind) for text in ("1+1", "1 1"))
    assert read_payload(one).digest != read_payload(other).digest
    assert b"s3cret" not in (read_payload(one).kept or b"")
    assert read_payload(post("{a}&password=s3cret", FORM)).kept == b"%7Ba%7D=&password=%5Bredacted%5D"


def test_upload_by_patch_that_somebody_has_parsed_counts_by_its_parts() -> None:
    """Django Ninja's middleware parses such requests as if they were POST, and leaves nothing to read."""
    digests = []
    for boundary, text in (("one", "a"), ("two", "a"), ("three", "b")):
        content = encode_multipart(boundary, {"text": text})
        request: Any = RequestFactory().post("/", content, f"multipart/form-data; boundary={boundary}")
        request._load_post_and_files()
        request.method = "PATCH"
        digests.append(Policy(Options()).operation(request, "k").fingerprint)
    assert digests[0] == digests[1] != digests[2]
