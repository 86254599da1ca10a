"""What is kept of a request's payload: readable for an operator, with secrets left out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from django_idempotency.core.fingerprints import Part

REDACTED = "[redacted]"
_ENCODER = json.JSONEncoder(ensure_ascii=False)
# Clients choose the names, so there are bounds to what is remembered of them.
_MOST_KNOWN, _LONGEST_KNOWN = 1000, 100
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")


class Redactor:
    """Tells which field names hold secrets: those that contain the words of one of ``names`` side by side.

    ``card_number`` covers ``cardNumber``, ``credit-card-number`` and the ``number`` of a ``card``; ``pin`` does not
    cover ``shipping``.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._phrases = [f" {phrase} " for phrase in map(_words, names) if phrase]
        self._known: dict[str, bool] = {}

    def hides(self, name: str) -> bool:
        """Tell whether a field's name is one of those; an API has few names, and they come with each request."""
        known = self._known.get(name)
        if known is None:
            known = self._hides(name)
            if len(self._known) < _MOST_KNOWN and len(name) <= _LONGEST_KNOWN:
                self._known[name] = known
        return known

    def _hides(self, name: str) -> bool:
        words = f" {_words(name)} "
        return any(phrase in words for phrase in self._phrases)

    def json(self, body: bytes) -> bytes | None:
        """Return the JSON text without secrets at any depth, or None when it cannot be parsed."""
        try:
            return _ENCODER.encode(self._clean(json.loads(body))).encode("utf-8", "replace")
        except (ValueError, RecursionError):
            return None

    def form(self, body: bytes) -> bytes:
        return self.query(body.decode("utf-8", "replace")).encode("ascii")

    def query(self, text: str) -> str:
        """Return a urlencoded text, secrets replaced, everything percent-encoded."""
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace")
        return urlencode(
            [(name, REDACTED if self.hides(name) else value) for name, value in pairs], quote_via=quote
        )

    def multipart(self, parts: Iterable[Part]) -> bytes:
        """Return a JSON list that describes the parts: fields with their text, files by name, size and digest."""
        return json.dumps([self._part(part) for part in parts]).encode()

    def _part(self, part: Part) -> dict[str, Any]:
        if part.filename is None:
            return {"name": part.name, "value": REDACTED if self.hides(part.name) else part.text}
        described = {"filename": part.filename, "content_type": part.content_type, "size": part.size}
        return {"name": part.name, **described, "sha256": part.digest}

    def _clean(self, value: Any, parent: str = "") -> Any:
        if isinstance(value, dict):
            return {
                name: REDACTED if self.hides(f"{parent} {name}".lstrip()) else self._clean(member, name)
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [self._clean(member, parent) for member in value]
        return value


@lru_cache(maxsize=8)
def redactor_for(names: tuple[str, ...]) -> Redactor:
    """Return the Redactor of these names, made once for a setting and not for each request."""
    return Redactor(names)


def _words(name: str) -> str:
    return " ".join(_WORDS.findall(name)).lower()
