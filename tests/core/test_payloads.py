"""What is kept of a payload."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.conf import Defaults
from django_idempotency.core.fingerprints import Part
from django_idempotency.core.payloads import REDACTED, Redactor

pytestmark = pytest.mark.once

redactor = Redactor(Defaults.REDACT)

SECRET = [
    "password",
    "userPassword",
    "ACCESS_TOKEN",
    "credit-card-number",
    "cardNumber",
    "PIN",
    "apiKey",
    "APIKey",
]
NAMES = st.sampled_from(["a", "password"])
ENCODABLE = st.characters(codec="utf-8")
VALUES = st.recursive(
    st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2)
)


@pytest.mark.parametrize("name", SECRET)
def test_secret_names(name: str) -> None:
    assert redactor.hides(name)


@pytest.mark.parametrize(
    "name", ["shipping", "card", "number", "tokens", "passwords_changed_at_all", "", "note"]
)
def test_harmless_names(name: str) -> None:
    assert not redactor.hides(name)


def test_names_of_the_project() -> None:
    own = Redactor(["otp2", "--", "пароль"])
    assert own.hides("Пароль-2")
    assert [name for name in ("otp2", "OTP_2", "otp", "--", "") if own.hides(name)] == ["otp2", "OTP_2"]


@given(VALUES)
def test_nothing_below_a_secret_name_is_kept(value: Any) -> None:
    body = json.dumps(
        {"keep": 1, "password": [value, "hunter2"], "list": [{"password": "hunter2", "v": value}]}
    )
    kept = redactor.json(body.encode()) or b""
    assert b"hunter2" not in kept
    assert json.loads(kept)["keep"] == 1


@given(st.sampled_from(SECRET), st.text(ENCODABLE))
def test_secret_is_in_no_output(name: str, secret: str) -> None:
    secret += "hunter2"
    kept = [redactor.form(urlencode({name: secret}).encode()), redactor.multipart([Part(name, secret)])]
    kept.append(redactor.json(json.dumps([{name: secret}]).encode()) or b"")
    assert b"hunter2" not in b" ".join(kept)
    assert all(b"redacted" in text for text in kept)


def test_json_that_cannot_be_read_is_not_kept() -> None:
    assert redactor.json(b'{"password": "hunter2"') is None
    assert redactor.json(b"[" * 100_000) is None
    assert redactor.json(b'"\\ud800"') is not None


def test_form_and_query() -> None:
    assert redactor.form(b"a=1&password=x&b=%C3%A9") == b"a=1&password=%5Bredacted%5D&b=%C3%A9"
    assert redactor.form(b"a=&b=x+y&c=\xff&token=") == b"a=&b=x%20y&c=%EF%BF%BD&token=%5Bredacted%5D"
    assert redactor.query("token=\udcff&a=\x00") == "token=%5Bredacted%5D&a=%00"


def test_multipart_is_described() -> None:
    parts = [
        Part("note", "n"),
        Part("empty", ""),
        Part("pin", "1234"),
        Part("f", None, "a.txt", "text/plain", 4, "d"),
    ]
    assert json.loads(redactor.multipart(parts)) == [
        {"name": "note", "value": "n"},
        {"name": "empty", "value": ""},
        {"name": "pin", "value": REDACTED},
        {"name": "f", "filename": "a.txt", "content_type": "text/plain", "size": 4, "sha256": "d"},
    ]
