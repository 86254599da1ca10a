"""The IETF draft as a table of checks over HTTP; needs no Django, so any deployment can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from django_idempotency.endpoints import Answer, Endpoint, Failed, NotApplicable

MEMBERS = {"type", "title", "status", "detail", "code"}
MALFORMED = {
    "empty": '""',
    "too long": f'"{"x" * 300}"',
    "unterminated": '"abc',
    "non-ASCII": '"cl\xe9"',
    "two different": '"a", "b"',
}
CROWD = 8


@dataclass(frozen=True)
class Row:
    """One requirement: its number in the draft's checklist, its level, and how it is checked."""

    id: str
    level: str
    name: str
    check: Callable[[Endpoint], str | None]


@dataclass(frozen=True)
class Result:
    """How one row went: ``pass``, ``fail`` or ``not applicable``, and why, or what else was seen."""

    row: Row
    outcome: str
    reason: str = ""


def run(endpoint: Endpoint) -> list[Result]:
    """Check every row. It has real effects at the endpoint: each check uses keys never used before."""
    return [_result(row, endpoint) for row in ROWS]


def _result(row: Row, endpoint: Endpoint) -> Result:
    try:
        seen = row.check(endpoint)
    except Failed as failure:
        return Result(row, "fail", str(failure))
    except NotApplicable as reason:
        return Result(row, "not applicable", str(reason))
    return Result(row, "pass", seen or "")


def _new_key() -> str:
    return f'"{uuid4()}"'


def _same(first: Answer, retry: Answer, what: str) -> None:
    if (retry.status, retry.body) != (first.status, first.body):
        raise Failed(
            f"{what} got {retry.status} and other bytes than the first answer, {first.status}: guard the view"
        )
    if not retry.replayed:
        raise Failed(
            f"{what} is not marked as a replay: give --replayed-header, or let proxies pass the header on"
        )


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


def _concurrent(endpoint: Endpoint) -> str:
    key = _new_key()
    answers = endpoint.at_once(key, CROWD)
    title = "A request is outstanding for this Idempotency-Key"
    refused = [answer for answer in answers if answer.status == 409]
    for answer in refused:
        _problem(answer, 409, "conflict", title, "a concurrent retry")
    ran = sorted((answer for answer in answers if answer.status != 409), key=lambda answer: answer.replayed)
    if not ran or ran[0].status >= 400:
        statuses = sorted({answer.status for answer in answers})
        raise Failed(f"{CROWD} requests at once got {statuses}: one must succeed")
    for retry in ran[1:]:
        _same(ran[0], retry, "a concurrent retry")
    _same(ran[0], endpoint.send(key), "the retry after them")
    if refused:
        return f"{len(refused)} of {CROWD} at once got 409"
    return f"none of {CROWD} at once got 409: they wait, or the --body is done too soon to be met"


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
