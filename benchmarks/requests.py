"""The requests that are compared: one for each form of the view, as bytes and as a WSGI environment."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

PRODUCTS = 64
TOKEN = "benchmark-token-0000000000000000000000"
#: Keys differ between runs and clients, never by chance.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Form:
    """One form of the view: its address, and whether a client sends the same key again and again."""

    name: str
    path: str
    repeats: bool = False
    cached: bool = False


UNPROTECTED = Form("unprotected", "/orders/unprotected/")
FLOOR = Form("floor", "/orders/floor/")
FIRST = Form("first request", "/orders/protected/")
NOTHING = Form("no-op", "/orders/nothing/")
REPLAY = Form("replay, database", "/orders/protected/", repeats=True)
CACHED_FIRST = Form("first request, cache on", "/orders/protected/", cached=True)
CACHED_REPLAY = Form("replay, cache", "/orders/protected/", repeats=True, cached=True)
DATABASE_FORMS = (UNPROTECTED, FLOOR, FIRST, NOTHING, REPLAY)
FORMS = (*DATABASE_FORMS, CACHED_FIRST, CACHED_REPLAY)


def keys(form: Form, run: str, client: int) -> Iterator[str]:
    """Give the keys of one client: a new one each time, or one for ever."""
    if form.repeats:
        return itertools.repeat(f"{run}-{client}-again")
    return (f"{run}-{client}-{next(_numbers)}-0123456789abcdef" for _ in itertools.count())


def body(client: int) -> bytes:
    """Order from the client's own product: its stock is no row that two clients wait for."""
    return json.dumps({"product": client % PRODUCTS + 1, "quantity": 1, "note": "benchmark"}).encode()


def wire(form: Form, client: int) -> Callable[[str], bytes]:
    """Give what makes the bytes of a request with a key, on a connection that is kept."""
    content = body(client)
    head = (
        f"POST {form.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nIdempotency-Key: "
    ).encode()
    return lambda key: head + key.encode() + b"\r\n\r\n" + content


def environ(form: Form, key: str) -> dict[str, Any]:
    """Give the same as a WSGI environment."""
    content = body(0)
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": form.path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Token {TOKEN}",
        "HTTP_IDEMPOTENCY_KEY": key,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
