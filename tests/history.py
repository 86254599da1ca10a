"""What clients saw, and what the database holds: a checker that finds what must not be, in the style of Elle.

Each execution appends an element that no other execution appends, and answers with it. So the elements that the
database holds for a key are its executions, and the elements that clients were told are their acknowledgements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """One answer as a client saw it: when it asked and was answered, and the element, or None without a success."""

    key: str
    asked: float
    answered: float
    element: int | None
    replayed: bool = False


@dataclass(frozen=True)
class Anomaly:
    """What must not be, and the key that it happened to."""

    kind: str
    key: str


def anomalies(seen: Iterable[Seen], effects: Mapping[str, Sequence[int]], finished: set[str]) -> set[Anomaly]:
    """Return what is wrong with a history, ``effects`` and the keys of the finished records being read after it."""
    told: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        if each.element is not None:
            told[each.key].append(each)
    found = set()
    for key in {*told, *effects, *finished}:
        found |= {Anomaly(kind, key) for kind in _wrong(told[key], effects.get(key, ()), key in finished)}
    return found


def _wrong(told: Sequence[Seen], elements: Sequence[int], finished: bool) -> Iterable[str]:
    answers = {each.element for each in told}
    if len(elements) > 1:
        yield "duplicate effect"
    if not answers <= set(elements):
        yield "lost acknowledged effect"
    if len(answers) > 1:
        yield "different answers"
    if elements and not finished:
        yield "effect without record"
    if finished and not elements:
        yield "record without effect"
    if sum(not each.replayed for each in told) > 1:
        yield "two first answers"
    if _replay_comes_true_later(told):
        yield "replay before the first run was asked for"


def _replay_comes_true_later(told: Sequence[Seen]) -> bool:
    """Tell whether a replay was answered before the first answer's request was even sent."""
    first = [each for each in told if not each.replayed]
    return any(each.replayed and each.answered < first[0].asked for each in told) if first else False
