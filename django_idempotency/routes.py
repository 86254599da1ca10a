"""URL patterns as system checks see them: each with its view, and what every path it matches begins with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver
from django.urls.resolvers import RegexPattern, RoutePattern


@dataclass(frozen=True)
class Route:
    """One URL pattern; ``text`` is all of it, ``fixed`` is what comes before its first variable part."""

    text: str
    view: Callable[..., Any]
    fixed: str
    is_whole: bool

    def may_be_under(self, path: str) -> bool:
        """Tell whether it can match a path that is ``path`` or below it; yes where only a request could tell."""
        wanted = f"{path.rstrip('/')}/"
        return f"{self.fixed}/".startswith(wanted) or (not self.is_whole and wanted.startswith(self.fixed))


def routes(resolver: Any, prefix: str = "", fixed: str = "/", *, is_whole: bool = True) -> Iterator[Route]:
    """Yield the routes of a resolver and of what it includes."""
    for pattern in resolver.url_patterns:
        text = f"{prefix}{pattern.pattern}".removeprefix("/")
        own, whole = _fixed_part(pattern)
        begins = fixed + own if is_whole else fixed
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, text, begins, is_whole=is_whole and whole)
        elif isinstance(pattern, URLPattern):
            yield Route(text, pattern.callback, begins, is_whole and whole)


def _fixed_part(pattern: Any) -> tuple[str, bool]:
    """Return what a pattern matches whatever the request, and whether that is all of it.

    Nothing is known of a language's prefix, of a translated route, of a regular expression that may begin anywhere, or
    of a project's own kind of pattern.
    """
    kind = pattern.pattern
    raw = getattr(kind, "_route", None) if type(kind) is RoutePattern else getattr(kind, "_regex", None)
    if type(pattern) not in (URLPattern, URLResolver) or not isinstance(raw, str):
        return "", False
    if type(kind) is RoutePattern:
        return raw.partition("<")[0], "<" not in raw
    if type(kind) is not RegexPattern or not raw.startswith("^") or "|" in raw:
        return "", False
    (literal,) = re.findall(r"^\^((?:[\w/-](?![*?{]))*)", raw)
    return literal, raw == f"^{literal}$"
