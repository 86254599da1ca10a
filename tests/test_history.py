"""The checker of histories finds each thing that must not be, and nothing in a history that is right."""

from __future__ import annotations

import pytest

from tests.history import Anomaly, Seen, anomalies

pytestmark = pytest.mark.once

FIRST, REPLAY = Seen("k", 0, 1, 7), Seen("k", 2, 3, 7, replayed=True)
REFUSED = Seen("k", 0, 1, None)


@pytest.mark.parametrize(
    ("seen", "effects", "finished"),
    [
        ([], {}, set()),
        ([FIRST, REPLAY, REFUSED], {"k": [7]}, {"k"}),
        ([REFUSED, REPLAY], {"k": [7]}, {"k"}),
        ([REFUSED], {}, set()),
        ([Seen("k", 0, 3, 7), Seen("k", 1, 2, 7, replayed=True)], {"k": [7]}, {"k"}),
        ([FIRST, Seen("l", 0, 1, 8)], {"k": [7], "l": [8]}, {"k", "l"}),
    ],
)
def test_history_that_is_right_has_no_anomaly(
    seen: list[Seen], effects: dict[str, list[int]], finished: set[str]
) -> None:
    assert anomalies(seen, effects, finished) == set()


@pytest.mark.parametrize(
    ("kind", "seen", "effects", "finished"),
    [
        ("duplicate effect", [FIRST], {"k": [7, 8]}, {"k"}),
        ("duplicate effect", [], {"k": [7, 8]}, {"k"}),
        ("lost acknowledged effect", [FIRST], {}, set()),
        ("lost acknowledged effect", [FIRST], {"k": [8]}, {"k"}),
        ("different answers", [FIRST, Seen("k", 2, 3, 8, replayed=True)], {"k": [7]}, {"k"}),
        ("effect without record", [REFUSED], {"k": [7]}, set()),
        ("record without effect", [REFUSED], {}, {"k"}),
        ("two first answers", [FIRST, Seen("k", 2, 3, 7)], {"k": [7]}, {"k"}),
        ("replay before the first run was asked for", [Seen("k", 4, 5, 7), REPLAY], {"k": [7]}, {"k"}),
    ],
)
def test_seeded_anomaly_is_found(
    kind: str, seen: list[Seen], effects: dict[str, list[int]], finished: set[str]
) -> None:
    assert Anomaly(kind, "k") in anomalies(seen, effects, finished)
