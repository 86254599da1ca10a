"""What a record keeps, as text for people: bytes may be anything, and may be encrypted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.utils.html import format_html
from django.utils.translation import gettext, ngettext

from django_idempotency.encryption import opened
from django_idempotency.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

TEXT_SHOWN = 4096


def pre(text: str) -> SafeString:
    """Return text as it is laid out, escaped for HTML."""
    return format_html("<pre>{}</pre>", text)


def shown(kept: bytes | memoryview | None) -> SafeString | str:
    """Return bytes as indented JSON or as text, their beginning if they are long, or what they are in words."""
    try:
        content = opened(kept)
    except StoreUnavailable:
        return gettext("encrypted, and no key of IDEMPOTENCY['ENCRYPTION_KEYS'] decrypts it")
    if not content:
        return "–" if content is None else gettext("empty")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ngettext("%d byte, not text", "%d bytes, not text", len(content)) % len(content)
    text = _indented(text)
    return pre(text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}… ({len(content)} bytes)")


def _indented(text: str) -> str:
    """Indent JSON; a lone surrogate that it escapes stays escaped, since no page can carry it."""
    try:
        indented = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    return indented.encode("utf-8", "backslashreplace").decode()
