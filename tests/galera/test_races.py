"""The same key sent to three nodes of a Galera cluster at the same moment, and a read that is behind.

``GALERA_ROUNDS`` is how often: the default is the dose of CI.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from django_idempotency.execution import execute_once
from tests import views
from tests.conftest import Parallel
from tests.galera.cluster import NODES
from tests.galera.conftest import CURRENT, Answer, Clients, Door, through_function, through_view
from tests.proofs import dose, note
from tests.servers import DATABASE

BALLAST = f"INSERT INTO {DATABASE}.ballast SELECT seq FROM {DATABASE}.seq_1_to_100000"
ROUNDS = dose("GALERA_ROUNDS", 50)
#: How many rounds a thread runs: one that does not end is noticed after a minute.
AT_ONCE = 50

pytestmark = [
    pytest.mark.galera,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(120 + ROUNDS),
]


def retried(clients: Clients, door: Door, number: int, key: str) -> list[Answer]:
    """Retry on the next node after each refusal; return all answers, the last being the effect's."""
    answers = [clients.send(door, clients.cluster.nodes[number], key)]
    while answers[-1].status != 201:
        number = (number + 1) % NODES
        answers.append(clients.send(door, clients.cluster.nodes[number], key))
        assert len(answers) < 500
    return answers


class Meeting:
    """Keeps the first run of a key in its view, after its effect, until another node runs it too, if one comes."""

    def __init__(self, effect: Callable[[], int]) -> None:
        self.has_effect, self.crowd, self.inside, self.met = effect, threading.Condition(), 0, 0

    def next_key(self) -> None:
        self.met, self.inside = self.met + (self.inside > 1), 0

    def effect(self) -> int:
        number = self.has_effect()
        with self.crowd:
            self.inside += 1
            self.crowd.notify_all()
            self.crowd.wait_for(lambda: self.inside > 1, timeout=0.05)
        return number


@pytest.mark.parametrize("door", [through_view, through_function])
def test_same_key_on_three_nodes_at_once_has_one_effect(
    clients: Clients,
    parallel: Parallel,
    door: Door,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meeting = Meeting(views.effect)
    monkeypatch.setattr(views, "effect", meeting.effect)
    barrier = threading.Barrier(NODES, action=meeting.next_key)

    def race(number: int, turns: range) -> list[list[Answer]]:
        answers = []
        for turn in turns:
            clients.connect(clients.cluster.nodes[number])
            barrier.wait(60)
            answers.append(retried(clients, door, number, f"k{turn}"))
        return answers

    rounds: list[tuple[list[Answer], ...]] = []
    for first in range(0, ROUNDS, AT_ONCE):
        racer = partial(race, turns=range(first, min(first + AT_ONCE, ROUNDS)))
        rounds += zip(*parallel.at_once(NODES, racer), strict=True)
    meeting.next_key()
    told = [{answers[-1].effect for answers in each} for each in rounds]
    assert [numbers for numbers in told if len(numbers) != 1] == []
    assert [sum(not answers[-1].replayed for answers in each) for each in rounds] == [1] * ROUNDS
    for node in clients.cluster.nodes:
        assert clients.effects(node) == sorted(number for numbers in told for number in numbers)
    assert "The view raised" not in caplog.text, "a lost certification is no error of the view"
    refused = Counter(answer.status for each in rounds for answers in each for answer in answers[:-1])
    assert meeting.met, "no two nodes ever ran one key at the same time"
    ran = {"rounds": ROUNDS, "overlapping": meeting.met, "runs": len(clients.runs), "refused": dict(refused)}
    note("galera", race=door.__name__, **ran, duplicates=0, lost=0)


def leave_a_row_in_progress(clients: Clients, key: str) -> None:
    """Have a run that fails, and see to it that every node has the record that it leaves."""
    with pytest.raises(ZeroDivisionError):
        execute_once(lambda: 1 // 0, key=key, scope="galera")
    clients.cluster.catch_up()


def leave_nothing(clients: Clients, key: str) -> None:
    """Let the key be new everywhere."""


@pytest.mark.parametrize("before", [leave_nothing, leave_a_row_in_progress])
@pytest.mark.parametrize("init_command", ["", CURRENT], ids=["", "wsrep_sync_wait"])
def test_retry_on_a_node_that_is_behind_has_no_second_effect(
    clients: Clients, init_command: str, before: Callable[[Clients, str], None]
) -> None:
    """A large transaction keeps the second node from applying what the first has committed and answered."""
    clients.init_command = init_command
    first, second, _ = clients.cluster.nodes
    first.ask(f"CREATE TABLE IF NOT EXISTS {DATABASE}.ballast (id INT PRIMARY KEY)")
    retries, told = Counter[str](), []
    for turn in range(max(3, ROUNDS // 20)):
        key = f"k{turn}"
        clients.connect(first)
        before(clients, key)
        first.ask(BALLAST)
        told.append(clients.send(through_function, first, key))
        runs = len(clients.runs)
        answers = retried(clients, through_function, 1, key)
        assert answers[-1] == Answer(201, told[-1].effect, replayed=True)
        retries["runs_in_vain"] += len(clients.runs) - runs
        retries["refused"] += len(answers) - 1
        first.ask(f"TRUNCATE {DATABASE}.ballast")
    if init_command:
        assert not retries.total()
    elif before is leave_a_row_in_progress:
        assert retries["runs_in_vain"], "the second node was never behind"
    assert clients.effects(second) == sorted(answer.effect for answer in told)
    race = f"{before.__name__}, {init_command or 'wsrep_sync_wait=0'}"
    note("galera", race=race, rounds=len(told), duplicates=0, lost=0, **retries)
