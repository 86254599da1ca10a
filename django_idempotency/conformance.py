"""The IETF draft as a table of checks over HTTP; needs no Django, so any deployment can be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit
from uuid import uuid4

REPLAYED = "Idempotent-Replayed"
MEMBERS = {"type", "title", "status", "detail", "code"}
MALFORMED = {
    "empty": '""',
    "too long": f'"{"x" * 300}"',
    "unterminated": '"abc',
    "non-ASCII": '"cl\xe9"',
    "two different": '"a", "b"',
}


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
        if answer.status >= 400:
            raise Failed(
                f"the first request got {answer.status}: give a --body and --header that it succeeds with"
            )
        if answer.replayed:
            raise Failed("a key that was never used got a replay: look at how scope and key are compared")
        return answer


@dataclass(frozen=True)
class Row:
    """One requirement: its number in the draft's checklist, its level, and how it is checked."""

    id: str
    level: str
    name: str
    check: Callable[[Endpoint], None]


@dataclass(frozen=True)
class Result:
    """How one row went: ``pass``, ``fail`` or ``not applicable``, and why."""

    row: Row
    outcome: str
    reason: str = ""


def run(endpoint: Endpoint) -> list[Result]:
    """Check every row. It has real effects at the endpoint: each check uses keys never used before."""
    return [_result(row, endpoint) for row in ROWS]


def _result(row: Row, endpoint: Endpoint) -> Result:
    try:
        row.check(endpoint)
    except Failed as failure:
        return Result(row, "fail", str(failure))
    except NotApplicable as reason:
        return Result(row, "not applicable", str(reason))
    return Result(row, "pass")


def _answer(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def _new_key() -> str:
    return f'"{uuid4()}"'


def _same(first: Answer, retry: Answer, what: str) -> None:
    if (retry.status, retry.body) != (first.status, first.body):
        raise Failed(
            f"{what} got {retry.status} and other bytes than the first answer, {first.status}: guard the view"
        )
    if not retry.replayed:
        raise Failed(f"{what} got no {REPLAYED}: true: guard the view, or let proxies pass the header on")


def _problem(answer: Answer, status: int, code: str, title: str, what: str) -> None:
    if answer.status != status:
        raise Failed(f"{what} got {answer.status} instead of {status}: guard the view")
    missing = MEMBERS - answer.members().keys()
    if missing:
        raise Failed(
            f"{what}: the problem details lack {', '.join(sorted(missing))}: see your exception handler"
        )
    expected = {"status": status, "code": code, "title": title}
    for name, value in expected.items():
        if answer.members()[name] != value:
            raise Failed(f"{what}: {name} is {answer.members()[name]!r} instead of {value!r}")
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if media_type not in ("application/problem+json", "application/json"):
        raise Failed(f"{what}: Content-Type is {media_type!r} instead of application/problem+json")


def _linked(answer: Answer, what: str) -> None:
    kind = answer.members().get("type")
    if answer.status < 400 or kind is None:
        raise Failed(f"{what} got {answer.status} without problem details: guard the view")
    if kind == "about:blank":
        raise NotApplicable("no documentation URL is configured (DOCUMENTATION_URL)")
    if f'<{kind}>; rel="describedby"' not in answer.headers.get("link", ""):
        raise Failed(f"{what}: no Link to {kind}: let proxies pass the header on")


def _string(endpoint: Endpoint) -> None:
    endpoint.first(_new_key())


def _bare(endpoint: Endpoint) -> None:
    key = _new_key()
    first, bare = endpoint.first(key), endpoint.send(key.strip('"'))
    if bare.status == 400:
        _invalid(bare, "a bare key")
    else:
        _same(first, bare, "the same key without quotes")


def _invalid(answer: Answer, what: str) -> None:
    _problem(answer, 400, "invalid-key", "Idempotency-Key is invalid", what)


def _malformed(endpoint: Endpoint) -> None:
    for name, key in MALFORMED.items():
        _invalid(endpoint.send(key), f"a malformed key ({name})")


def _missing(endpoint: Endpoint) -> None:
    if not endpoint.required:
        raise NotApplicable("a key is optional here; say --required if it is not")
    _problem(endpoint.send(None), 400, "missing-key", "Idempotency-Key is missing", "a request without a key")


def _retry(endpoint: Endpoint) -> None:
    key = _new_key()
    _same(endpoint.first(key), endpoint.send(key), "the retry")


def _other_payload(endpoint: Endpoint) -> Answer:
    key = _new_key()
    endpoint.first(key)
    return endpoint.send(key, body=endpoint.other())


def _mismatch(endpoint: Endpoint) -> None:
    title = "Idempotency-Key is already used"
    _problem(_other_payload(endpoint), 422, "fingerprint-mismatch", title, "another payload")


def _never_poisons(endpoint: Endpoint) -> None:
    key = _new_key()
    first = endpoint.first(key)
    other = endpoint.send(key, body=endpoint.other())
    if other.status < 400:
        raise Failed(f"another payload got {other.status}: compare the payload before you replay")
    _same(first, endpoint.send(key), "the retry after another payload")


def _concurrent(endpoint: Endpoint) -> None:
    key = _new_key()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(endpoint.send, [key, key]))
    title = "A request is outstanding for this Idempotency-Key"
    ran = [answer for answer in answers if answer.status != 409]
    for answer in answers:
        if answer.status == 409:
            _problem(answer, 409, "conflict", title, "a concurrent retry")
    if not ran or ran[0].status >= 400:
        raise Failed(f"two requests at once got {[answer.status for answer in answers]}: one must succeed")
    if len(ran) == 2:
        first, retry = sorted(ran, key=lambda answer: answer.replayed)
        _same(first, retry, "a concurrent retry")


def _new_effect(endpoint: Endpoint) -> None:
    endpoint.first(_new_key())
    endpoint.first(_new_key())


def _safe(endpoint: Endpoint) -> None:
    key = _new_key()
    endpoint.first(key)
    for sent in (key, MALFORMED["unterminated"]):
        answer = endpoint.send(sent, method="GET")
        if answer.replayed or answer.members().get("code") == "invalid-key":
            raise Failed(f"GET with a key got {answer.status}: take GET out of METHODS")


def _published(endpoint: Endpoint) -> None:
    raise NotApplicable("it is in your documentation, not in an answer: see that it names the retention")


ROWS = (
    Row("I1", "MUST", "a quoted string is taken as key", _string),
    Row("I1-bare", "practice", "a bare key is the same key, or refused", _bare),
    Row("I2", "MUST", "a key with another payload gets 422", _mismatch),
    Row("I3", "MUST", "a new key is a new operation", _new_effect),
    Row("I4", "SHOULD", "the expiry policy is published", _published),
    Row("I7", "MUST", "the idempotency specification is published", _published),
    Row("I9-I10", "SHOULD", "a retry gets the first answer", _retry),
    Row("I11", "SHOULD", "a concurrent retry gets 409 or the first answer", _concurrent),
    Row("I12", "SHOULD", "a missing key gets 400", _missing),
    Row("I12-link", "SHOULD", "400 links to documentation", lambda e: _linked(e.send('"abc'), "400")),
    Row("I13-link", "SHOULD", "422 links to documentation", lambda e: _linked(_other_payload(e), "422")),
    Row("I14", "MUST", "another payload never poisons the record", _never_poisons),
    Row("I16", "practice", "a malformed key gets 400", _malformed),
    Row("methods", "practice", "a safe method ignores the key", _safe),
)
