"""Digest a request by its meaning: the same action has the same fingerprint, however its bytes were laid out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

VERSION = "1"


@dataclass(frozen=True)
class Part:
    """One part of a multipart body: a field with its text, or a file with the digest of its content."""

    name: str
    text: str | None = None
    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    digest: str | None = None


def digest_parts(*parts: tuple[str, bytes]) -> str:
    """Return SHA-256 (hex) over named parts, each name and value with its length before it."""
    digest = hashlib.sha256()
    for name, value in parts:
        for chunk in (name.encode(), value):
            digest.update(len(chunk).to_bytes(8, "big"))
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(*parts: tuple[str, bytes]) -> str:
    """Return the versioned fingerprint ``1:<hex>``; the version lets an upgrade still compare old records."""
    return f"{VERSION}:{digest_parts(*parts)}"


def canonical_json(body: bytes, ignore: Collection[str] = ()) -> bytes | None:
    """Return one encoding for all JSON texts that mean the same, or None when ``body`` is not JSON.

    Member order, white space and escapes do not matter (RFC 8785). Numbers keep the distinctions that Python
    sees: ``1`` and ``1.0`` differ, ``1.5`` and ``1.50`` and ``15e-1`` do not. Members named in ``ignore`` are
    left out at the top level.
    """
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
        if isinstance(value, dict) and _MEMBERS in value:
            value[_MEMBERS] = [pair for pair in value[_MEMBERS] if pair[0] not in ignore]
        return _dump(value)
    except (ValueError, RecursionError):
        return None


def canonical_form(body: bytes, ignore: Collection[str] = ()) -> bytes:
    """Return one encoding of a urlencoded form: order counts within a field, not between fields."""
    pairs = parse_qsl(
        body.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape"
    )
    return _dump(_ordered((name, value) for name, value in pairs if name not in ignore))


def canonical_multipart(parts: Iterable[Part], ignore: Collection[str] = ()) -> bytes:
    """Return one encoding of a multipart body by its parts: neither the boundary nor the order between names counts."""
    described = (
        (part.name, [part.text, part.filename, part.content_type, part.digest])
        for part in parts
        if part.name not in ignore
    )
    return _dump(_ordered(described))


# Every object becomes {"": [[name, value], …]}: repeated names survive, and no body can imitate a number's tag.
_MEMBERS = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_MEMBERS: _ordered(pairs)}


def _decimal(lexeme: str) -> dict[str, Any]:
    try:
        sign, digits, exponent = Decimal(lexeme).as_tuple()
    except InvalidOperation:
        return {"number": lexeme}
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    if not significant:
        return {"number": "0"}
    return {"number": [sign, significant.lstrip("0"), int(exponent) + len(text) - len(significant)]}


def _constant(lexeme: str) -> dict[str, Any]:
    return {"constant": lexeme}


def _ordered(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(pairs, key=lambda pair: pair[0])


def _dump(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


# Made once: json.loads() and json.dumps() make both anew for each call with options.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_decimal, parse_constant=_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
