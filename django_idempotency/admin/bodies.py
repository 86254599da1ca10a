"""Payloads and bodies: shown as text or image, or told in words, and downloaded as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable

from django.http import HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from django_idempotency.admin.texts import pre

TEXT_SHOWN = 4096

# Never SVG: it can carry scripts.
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


def shown(content: bytes, headers: Iterable[tuple[str, str]], url: str) -> SafeString:
    """Return a stored body as HTML: indented JSON, text, an image or words; with a link to its bytes."""
    encoding = next((value for name, value in headers if name.lower() == "content-encoding"), "")
    if not content:
        return format_html("{}", gettext("Empty."))
    if encoding:
        return _link(gettext("Compressed (%s), so not shown here.") % encoding, content, url)
    if image_type(content):
        return format_html(
            '<img class="idem-image" src="{}?view" alt="{}">{}', url, gettext("the stored image"),
            _link("", content, url),
        )  # fmt: skip
    try:
        text = _indented(content.decode())
    except UnicodeDecodeError:
        return _link(gettext("Not text, so not shown here."), content, url)
    cut = gettext("Its beginning is shown.") if len(text) > TEXT_SHOWN else ""
    return format_html("{}{}", pre(text[:TEXT_SHOWN]), _link(cut, content, url))


def image_type(content: bytes) -> str | None:
    """Return the media type of an image that a browser may show, told by its first bytes and by no header."""
    return next((kind for magic, kind in _IMAGES.items() if content.startswith(magic)), None)


def download(content: bytes, name: str, *, view: bool) -> HttpResponse:
    """Return the bytes as a file that no browser opens; an image for ``view`` as what it is."""
    kind = image_type(content) if view else None
    response = HttpResponse(content, content_type=kind or "application/octet-stream")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if kind is None:
        response["Content-Disposition"] = f'attachment; filename="{name}.bin"'
    return response


def _link(words: str, content: bytes, url: str) -> SafeString:
    size = ngettext("Download %s byte", "Download %s bytes", len(content)) % f"{len(content):,}"
    return format_html('<p class="idem-words">{} <a href="{}">{}</a></p>', words, url, size)


def _indented(text: str) -> str:
    """Indent JSON; a lone surrogate that it escapes stays escaped, since no page can carry it."""
    try:
        indented = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    return indented.encode("utf-8", "backslashreplace").decode()
