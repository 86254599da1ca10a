"""Numbers, times and strange characters, as a person reads them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import date_format, get_format, localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise
else:
    Text = str

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """Return the text with an escape for each control character, so that none can hide or reorder what is shown."""
    return _CONTROLS.sub(_escape, text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """Return ``visible(text)`` on one line."""
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


def pre(text: str) -> SafeString:
    """Return a block of text as HTML that keeps its line breaks, and scrolls by keyboard."""
    return format_html('<pre class="idem-pre" tabindex="0">{}</pre>', visible(text))


def copyable(text: str, css_class: str) -> SafeString:
    """Return a text as HTML that one click selects as a whole, however little of it fits."""
    return format_html('<code class="{}" title="{}">{}</code>', css_class, line(text), line(text))


def at(moment: datetime, text: str) -> SafeString:
    """Return a relative time as HTML, with the absolute one in the title."""
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), text)


def exact(moment: datetime) -> str:
    """Return date and time to the second, in the active zone, with its name: two runs may lie within a minute."""
    return date_format(timezone.localtime(moment), f"{get_format('DATE_FORMAT')} H:i:s T")


def relative(moment: datetime, now: datetime) -> str:
    """Return "in 3 hours", "2 days ago" or, about the last minute, "just now"."""
    if timedelta(0) <= now - moment < timedelta(minutes=1):
        return gettext("just now")
    if moment > now:
        return gettext("in %s") % timeuntil(moment, now, depth=1)
    return gettext("%s ago") % timesince(moment, now, depth=1)


def duration(span: timedelta) -> str:
    """Return a run's length in milliseconds, or in seconds from one on."""
    milliseconds = round(span / timedelta(milliseconds=1))
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{localize(round(milliseconds / 1000, 1))} s"


def number(count: int, limit: int) -> str:
    """Return a count with thousands apart, and "10,000+" for one that went beyond its limit."""
    return f"{count:,}" if count <= limit else f"{limit:,}+"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
