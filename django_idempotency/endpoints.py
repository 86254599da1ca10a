"""One endpoint as a client sees it over HTTP: what conformance.py asks; needs no Django."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

REPLAYED = "Idempotent-Replayed"


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

    @property
    def replayed(self) -> bool:
        return self.headers.get(REPLAYED.lower()) == "true"

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

    def send(self, key: str | None, *, body: str | None = None, method: str | None = None) -> Answer:
        """Send one request on a connection of its own; ``key`` is the header's raw value."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self.headers}
        if key is not None:
            headers["Idempotency-Key"] = key
        payload = (self.body if body is None else body).encode() if method is None else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
            try:
                connection.request(method or self.method, target, payload, headers)
                return _answer(connection.getresponse())
            finally:
                connection.close()
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{self.url} gave no answer ({type(error).__name__}: {error})") from error

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


def _answer(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())
