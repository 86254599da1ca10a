"""The header's value, form by form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.keys import checked_key, parse_key
from django_idempotency.exceptions import KeyInvalid

pytestmark = pytest.mark.once

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255).filter(
    str.strip
)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (UUID, UUID),
        (f'"{UUID}"', UUID),
        (" k\t", "k"),
        ('\tk , \t"k" ', "k"),
        ("abc;v=1", "abc;v=1"),
        ('a"b', 'a"b'),
        ('"with space"', "with space"),
        (r'"q\"b\\"', 'q"b\\'),
        ('"a,b"', "a,b"),
        ('"k";a;b=1;c=-1.5;d=?1;e=tok/en;f="x,\\"";g=:YQ==:;h=@123', "k"),
        ('"k";  a=%"f%c3%bc\\";*b=*;c=123456789012.125;d=123456789012345', "k"),
        ('"k";a="x,y", k', "k"),
        ("k,k , k", "k"),
        ('"k", k', "k"),
        ("k" * 255, "k" * 255),
        ('"' + r"\"" * 255 + '"', '"' * 255),
    ],
)
def test_well_formed(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header",
    ["", " ", '""', '" "', "a b", "a,b", '"a",b', "a,", ",", '"a', '"a"b', '"a";A=1', '"a\\n"', "a\x00", "a\x7f",
     "a\tb", "clé", "k" * 256, '"' + "k" * 256 + '"', ",".join(["k"] * 3000), '"k";a =1', '"k";a=?2', '"k";\ta',
     '"k" ;a', '"\x00"', '"clé"', '"k"\n', "k\n", "k\xa0",
     '"k";a=%"%C3"', '"k";a=%"%"', '"k";a=1234567890123.5', '"k";a=\u0663'],
)  # fmt: skip
def test_malformed(header: str) -> None:
    with pytest.raises(KeyInvalid):
        parse_key(header)


@pytest.mark.parametrize("key", ["", "  ", "é", "\x00", "\x7f", "a\u2028", "k" * 256])
def test_key_from_elsewhere_is_held_to_the_same_rules(key: str) -> None:
    with pytest.raises(KeyInvalid):
        checked_key(key)


SHOWN = "do-not-show"


@pytest.mark.parametrize(
    "header",
    [
        f'"{SHOWN}',
        f"{SHOWN} b",
        f"{SHOWN},b",
        f"{SHOWN}é",
        f'"{SHOWN}\x00"',
        f'"{SHOWN * 30}"',
        f'"{SHOWN}"b',
    ],
)
def test_refusal_never_shows_the_key(header: str) -> None:
    with pytest.raises(KeyInvalid) as refusal:
        parse_key(header)
    assert SHOWN not in repr(refusal.value)


def test_strict_takes_only_strings() -> None:
    assert parse_key('"k";v=1', strict=True) == "k"
    for header in ("k", '"k", k'):
        with pytest.raises(KeyInvalid, match="quoted string") as refusal:
            parse_key(header.replace("k", SHOWN), strict=True)
        assert SHOWN not in str(refusal.value)


def test_length_counts_the_key_and_not_its_spelling() -> None:
    assert parse_key('"abc"', max_length=3) == "abc"
    with pytest.raises(KeyInvalid, match="at most 2"):
        parse_key("abc", max_length=2)


@given(PRINTABLE)
def test_quoted_key_comes_back(key: str) -> None:
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key(f'"{quoted}"') == key


@given(st.text(max_size=300) | st.text(st.sampled_from('"\\,; a=\x7f'), max_size=300))
def test_any_text_is_a_key_or_refused_without_showing_it(header: str) -> None:
    key, told = "k", ""
    try:
        key = parse_key(header)
    except KeyInvalid as error:
        told = str(error)
    assert checked_key(key) == key
    assert len(header) < 12 or header not in told


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ['"', "\\", '"\\', ';a="', '"a";', ',"', '""', "x", '"a",', '"a', ";a", " "])
def test_hostile_headers_take_no_time(unit: str) -> None:
    header = (unit * 4096)[:4096]
    for prefix in ("", '"', '"a"', '"a";', '"a";a=', '"a";a="'):
        with pytest.raises(KeyInvalid):
            parse_key(prefix + header[len(prefix) + 1 :] + "\x00")
