"""One endpoint as a client sees it over HTTP: what conformance.py asks; needs no Django."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

KEY, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"


class Unreachable(Exception):
    """No HTTP answer came; the text says from where and why."""


class Failed(Exception):
    """A check failed; the text says what was seen and what to do."""


class NotApplicable(Exception):
    """A check says nothing about this endpoint; the text says why."""


@dataclass(frozen=True)
class Answer:
    """What one request got."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False

    def members(self) -> dict[str, object]:
        """Return the members of the problem details, none if the body is no JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Endpoint:
    """One guarded endpoint, and what to send there."""

    url: str
    method: str = "POST"
    body: str = "{}"
    other_body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    required: bool = False
    timeout: float = 30
    key_header: str = KEY
    replayed_header: str = REPLAYED

    def send(
        self,
        key: str | None,
        *,
        body: str | None = None,
        method: str | None = None,
        ready: Callable[[], object] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own, when ``ready`` has returned; ``key`` is the raw value."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self.headers}
        if key is not None:
            headers[self.key_header] = key
        payload = (self.body if body is None else body).encode() if method is None else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
            with closing(connection):
                connection.connect()
                if ready is not None:
                    ready()
                connection.request(method or self.method, target, payload, headers)
                return self._answer(connection.getresponse())
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{self.url} gave no answer ({type(error).__name__}: {error})") from error

    def at_once(self, key: str, count: int) -> list[Answer]:
        """Send the request ``count`` times at the same moment: every connection is open before the first is used."""
        barrier = threading.Barrier(count)

        def send(number: int) -> Answer:
            try:
                return self.send(key, ready=partial(barrier.wait, self.timeout))
            except threading.BrokenBarrierError:
                raise Unreachable(f"{self.url} did not take {count} connections at once") from None
            except Unreachable:
                barrier.abort()
                raise

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(send, range(count)))

    def other(self) -> str:
        """Return another payload; it is refused by its fingerprint before the view reads it."""
        if self.other_body is not None:
            return self.other_body
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        return json.dumps({**(value if isinstance(value, dict) else {}), "idempotency_conformance": True})

    def first(self, key: str) -> Answer:
        """Send a request whose answer is to be stored."""
        answer = self.send(key)
        if answer.status in (301, 307, 308):
            raise Failed(f"the first request was sent on to {answer.headers.get('location')}: give that URL")
        if answer.status >= 400:
            raise Failed(
                f"the first request got {answer.status}: give a --body and --header that it succeeds with"
            )
        if answer.replayed:
            raise Failed("a key that was never used got a replay: look at how scope and key are compared")
        return answer

    def _answer(self, response: HTTPResponse) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        replayed = headers.get(self.replayed_header.lower()) == "true"
        return Answer(response.status, headers, response.read(), replayed)
