"""What counts as the same request, and what does not."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.fingerprints import (
    Part,
    canonical_form,
    canonical_json,
    canonical_multipart,
    digest_parts,
    fingerprint,
)

pytestmark = pytest.mark.once

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, seed: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(name, shuffled(member, seed)) for name, member in value.items()]
        seed.shuffle(items)
        return dict(items)
    return [shuffled(member, seed) for member in value] if isinstance(value, list) else value


@given(JSON, st.randoms(use_true_random=False))
def test_layout_does_not_count(value: Any, seed: random.Random) -> None:
    plain = json.dumps(value).encode()
    other = json.dumps(shuffled(value, seed), indent=2, ensure_ascii=not json.dumps(value).isascii()).encode()
    assert canonical_json(plain) == canonical_json(other) is not None


def frozen(value: Any) -> Any:
    """Return a value that tells 1 from True from 1.0, as JSON does."""
    if isinstance(value, dict):
        return {name: frozen(member) for name, member in value.items()}
    if isinstance(value, list):
        return [frozen(member) for member in value]
    return (type(value).__name__, value or repr(value).lstrip("-"))


@given(JSON, JSON)
def test_other_values_differ(one: Any, other: Any) -> None:
    same = canonical_json(json.dumps(one).encode()) == canonical_json(json.dumps(other).encode())
    assert same == (frozen(one) == frozen(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.5", "1.50"), ("15e-1", "1.5"), ("1e2", "100.0"), ('"\\u0041"', '"A"'), ('{"b":1,"a":2}', ' { "a":2,"b":1 } '),
     ("0.0", "-0.0")],
)  # fmt: skip
def test_same_meaning(one: str, other: str) -> None:
    assert canonical_json(one.encode()) == canonical_json(other.encode()) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1.0"), ("1", '"1"'), ("0.1", "0.10000000000000001"), ("1e400", "1e401"), ("NaN", "Infinity"),
     ("1e99999999999999999999", "1e99999999999999999998"), ("[1,2]", "[2,1]"), ('{"a":1,"a":2}', '{"a":2}'),
     ('{"a":1}', '[["a",1]]'), ('{"a":1}', '{"":[["a",1]]}'), ("1.5", '{"number":[0,"15",-1]}'), ("null", "[]"),
     ("true", "1"), ("1.5", "-1.5"), ("0.5", "5.0"), ("Infinity", "-Infinity"), ("NaN", '"NaN"')],
)  # fmt: skip
def test_other_meaning(one: str, other: str) -> None:
    assert None is not canonical_json(one.encode()) != canonical_json(other.encode()) is not None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a":1} x'])
def test_what_cannot_be_read_as_json_is_none(body: bytes) -> None:
    assert canonical_json(body) is None


def test_encodings_of_json_do_not_count() -> None:
    text = '{"a": "é"}'
    assert canonical_json(text.encode("utf-16")) == canonical_json(text.encode()) is not None
    assert canonical_json(b'"\\ud800"') is not None
    assert canonical_json(b'"\xed\xa0\xbd\xed\xb8\x80"') != canonical_json('"\U0001f600"'.encode())


def test_ignored_members_are_left_out_at_the_top_only() -> None:
    assert canonical_json(b'{"a":1,"t":1}', ["t"]) == canonical_json(b'{"a":1,"t":2}', ["t"])
    assert canonical_json(b'{"a":{"t":1}}', ["t"]) != canonical_json(b'{"a":{"t":2}}', ["t"])
    assert canonical_json(b'[{"t":1}]', ["t"]) != canonical_json(b"[{}]", ["t"])
    assert canonical_json(b"1.5", ["number"]) == canonical_json(b"1.5")


def test_forms_count_order_within_a_field_only() -> None:
    assert canonical_form(b"a=1&b=2&a=3") == canonical_form(b"b=2&a=1&a=3")
    assert canonical_form(b"a=1&a=3") != canonical_form(b"a=3&a=1")
    assert canonical_form(b"a=") != canonical_form(b"")
    assert canonical_form(b"a=%20") == canonical_form(b"a=+")
    assert canonical_form(b"a=%80") == canonical_form(b"a=\x80") != canonical_form(b"a=\x81")
    assert canonical_form(b"a=%80") != canonical_form(b"a=%81")
    assert canonical_form(b"a=1&t=1", ["t"]) == canonical_form(b"a=1&t=2", ["t"])


FILE = {"filename": "a.txt", "content_type": "text/plain", "size": 1, "digest": "d"}


@pytest.mark.parametrize("change", [{"filename": "b"}, {"content_type": "x/y"}, {"digest": "e"}])
def test_every_attribute_of_a_file_counts(change: dict[str, Any]) -> None:
    assert canonical_multipart([Part("f", **FILE)]) != canonical_multipart([Part("f", **{**FILE, **change})])


def test_text_is_no_file() -> None:
    assert canonical_multipart([Part("f", "d")]) != canonical_multipart([Part("f", digest="d")])


def test_order_of_parts_counts_within_a_name_only() -> None:
    a, b, c = Part("a", "1"), Part("a", "2"), Part("b", "1")
    assert canonical_multipart([a, b, c]) == canonical_multipart([c, a, b]) != canonical_multipart([b, a, c])
    assert canonical_multipart([a, c], ["a"]) == canonical_multipart([c])


PARTS = st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=4)), max_size=4)


@given(PARTS, PARTS)
def test_digest_tells_part_lists_apart(one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]) -> None:
    assert (digest_parts(*one) == digest_parts(*other)) == (one == other)


PINNED_JSON = b'{"":[["a","\xc3\xa9"],["b",[1,{"number":[0,"15",-1]},null]]]}'


def test_fingerprint_is_pinned() -> None:
    """An upgrade must still recognise the records of its predecessor."""
    assert fingerprint(("a", b"b")) == "1:" + digest_parts(("a", b"b"))
    assert digest_parts(("a", b"b")).startswith("3c9d591045bc8876")
    assert canonical_json(b'{"b": [1, 1.50, null], "a": "\\u00e9"}') == PINNED_JSON
    assert canonical_form(b"b=1&a=%C3%A9") == b'[["a","\xc3\xa9"],["b","1"]]'
    assert canonical_multipart([Part("a", "1")]) == b'[["a",["1",null,null,null]]]'
