"""Somebody who sends one request again and again, and what probes of another's key are measured by."""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

SECRET = "only Alice reads this"
GUESSED = ["1", "order-1", "test", "00000000-0000-0000-0000-000000000000"]
PROBES = int(os.environ.get("TIMING_PROBES", "40"))


class Caller:
    """Somebody with a token, with a session, or with neither, before one door."""

    def __init__(self, path: str, token: Any = None, user: Any = None, **fields: Any) -> None:
        self.path = path
        self.token = token
        self.user = token.user if token else user
        self.fields = fields
        self.client = Client(headers={"Authorization": f"Token {token.key}"} if token else None)
        if user:
            self.client.force_login(user)

    def send(self, key: str, note: str = SECRET) -> Any:
        body = {**self.fields, "note": note}
        return self.client.post(self.path, body, "application/json", headers={"Idempotency-Key": key})


def replayed(answer: Any) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"


def untouched(owner: Caller, key: str, first: Any) -> None:
    """Assert that the owner's record still gives the first answer."""
    retry = owner.send(key)
    assert (retry.status_code, retry.content, replayed(retry)) == (first.status_code, first.content, True)


def looks_unused(owner: Caller, other: Caller, key: str) -> None:
    """Assert that the owner's key is to somebody else what a key is that nobody has used."""
    first = owner.send(key)
    assert not replayed(first)
    probe, unused = other.send(key, "mine"), other.send(f"{key}-never-used", "mine")
    assert (probe.status_code, unused.status_code, replayed(probe)) == (201, 201, False)
    assert set(probe.headers) == set(unused.headers)
    assert probe.json().keys() == unused.json().keys()
    assert probe.json()["id"] != first.json()["id"]
    assert SECRET.encode() not in probe.content
    untouched(owner, key, first)


def same_request_is_ones_own(owner: Caller, other: Caller, key: str) -> None:
    """Assert that the very same request with the same key runs for somebody else."""
    first, probe = owner.send(key), other.send(key)
    assert (probe.status_code, replayed(probe)) == (201, False)
    assert probe.json()["id"] != first.json()["id"]
    untouched(owner, key, first)


def refused_alike(caller: Caller, key: str, status: int) -> None:
    """Assert that a used key is refused like an unused one, without a word of the record."""
    probe, unused = caller.send(key), caller.send(f"{key}-never-used")
    assert (probe.status_code, unused.status_code) == (status, status)
    assert probe.content == unused.content
    assert set(probe.headers) == set(unused.headers)
    assert SECRET.encode() not in probe.content


def shown_by_time(used: list[float], unused: list[float]) -> float:
    """Return how often a probe of a used key took longer than one of an unused key: 0.5 tells nothing, 0 or 1 all."""
    ordered = sorted(unused)
    longer = sum((bisect_left(ordered, one) + bisect_right(ordered, one)) / 2 for one in used)
    return longer / (len(used) * len(unused))


def time_tells_nothing(
    name: str, own: Callable[[str], Any], probe: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Let ``own`` use keys, probe those and as many unused ones in random order, and assert that none takes longer.

    Chance alone gives 0.5, with a standard deviation that follows from the number of probes; five are allowed.
    """
    for number in range(PROBES):
        own(f"used-{number}")
    keys = [f"{kind}-{number}" for number in range(PROBES) for kind in ("used", "none")]
    random.shuffle(keys)
    took: dict[str, list[float]] = {"used": [], "none": [], "warm": []}
    for key in [*(f"warm-{number}" for number in range(10)), *keys]:
        started = time.perf_counter()
        probe(key)
        took[key.partition("-")[0]].append(time.perf_counter() - started)
    told = shown_by_time(took["used"], took["none"])
    used, unused = (statistics.median(took[kind]) * 1000 for kind in ("used", "none"))
    with capsys.disabled():
        print(f"\n{name}: {PROBES} probes each, medians {used:.2f} and {unused:.2f} ms, longer in {told:.0%}")
    assert abs(told - 0.5) < 5 * math.sqrt((2 * PROBES + 1) / 12) / PROBES
