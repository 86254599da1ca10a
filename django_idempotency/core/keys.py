"""Parse and validate the value of the ``Idempotency-Key`` header (draft-ietf-httpapi-idempotency-key-header-07)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django_idempotency.exceptions import KeyInvalid

_STRING = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"'
_BARE_ITEM = (
    r"(?:-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})"  # decimal, integer
    r"|\?[01]|@-?[0-9]{1,15}"  # boolean, date
    r'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'  # string
    r'|%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"'  # display string
    r"|:[A-Za-z0-9+/]*={0,2}:"  # byte sequence
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)"  # token
)
_PARAMETERS = rf"(?:; *[a-z*][a-z0-9_\-.*]*(?:={_BARE_ITEM})?)*"
_SF_STRING = re.compile(_STRING + _PARAMETERS)
_BARE = re.compile(r"[\x21-\x7e]+")
_MEMBER = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*"(?:"(?:[^"\\]|\\.)*"|[^",])*|[^,]*)(,|\Z)', re.DOTALL)

# A header longer than this is refused unread: no well-formed key of a legal length needs it.
_MAX_HEADER_LENGTH = 4096


def parse_key(header: str, *, strict: bool = False, max_length: int = 255) -> str:
    """Return the key that a header value carries.

    ``"abc"`` (an RFC 9651 string, parameters allowed) and ``abc`` are the same key; ``strict`` takes only the
    former. A repeated header reaches the application joined by commas: equal members count as one.
    Raises KeyInvalid, before anything is looked up, with a sentence that says what to change.
    """
    if len(header) > _MAX_HEADER_LENGTH:
        raise KeyInvalid(f"The Idempotency-Key is too long: send at most {max_length} characters.")
    keys = {_parse_member(member, strict) for member in _members(header)}
    if len(keys) != 1:
        raise KeyInvalid("Several different Idempotency-Key values were sent: send one.")
    return checked_key(keys.pop(), max_length=max_length)


def checked_key(key: str, *, max_length: int = 255) -> str:
    """Return ``key`` if it is 1 to ``max_length`` printable ASCII characters, not all blank; else raise KeyInvalid."""
    if not key.strip(" "):
        raise KeyInvalid("The Idempotency-Key is empty: send one unique value per logical action.")
    if len(key) > max_length:
        raise KeyInvalid(f"The Idempotency-Key is too long: send at most {max_length} characters.")
    if not (key.isascii() and key.isprintable()):
        raise KeyInvalid(
            "The Idempotency-Key holds control or non-ASCII characters: send visible ASCII only."
        )
    return key


def _members(header: str) -> Iterator[str]:
    """Yield the members of a joined header: split at the commas that no quoted string holds."""
    position = 0
    while match := _MEMBER.match(header, position):
        yield match[1].rstrip(" \t")
        if not match[2]:
            return
        position = match.end()


def _parse_member(member: str, strict: bool) -> str:
    if member.startswith('"'):
        return _parse_string(member)
    if strict and member:
        raise KeyInvalid(
            'The Idempotency-Key must be a quoted string, for example "8e03978e-40d5-43dd-bc93-6894a57f9324".'
        )
    if member and not _BARE.fullmatch(member):
        raise KeyInvalid(
            "The Idempotency-Key holds spaces, control or non-ASCII characters: send visible ASCII only."
        )
    return member


def _parse_string(member: str) -> str:
    match = _SF_STRING.fullmatch(member)
    if match is None:
        raise KeyInvalid("The Idempotency-Key is not a well-formed quoted string (RFC 9651).")
    return re.sub(r"\\(.)", r"\1", match[1])
