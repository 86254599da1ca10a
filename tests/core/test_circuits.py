"""The circuit breaker, with a clock that the test moves."""

from __future__ import annotations

import threading

import pytest

from django_idempotency.core.circuits import FIRST_PAUSE, LONGEST_PAUSE, Circuit

pytestmark = pytest.mark.once


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock)


def failure(circuit: Circuit) -> float | None:
    ticket = circuit.ticket()
    assert ticket is not None
    return circuit.failed(ticket)


def test_while_it_answers_everybody_may_ask(circuit: Circuit) -> None:
    tickets = [circuit.ticket() for _ in range(3)]
    assert None not in tickets
    assert not any(circuit.succeeded(ticket) for ticket in tickets if ticket is not None)


def test_after_a_failure_nobody_asks_until_the_pause_ends(circuit: Circuit, clock: Clock) -> None:
    assert failure(circuit) == FIRST_PAUSE
    clock.now += FIRST_PAUSE - 0.01
    assert circuit.ticket() is None


def test_after_the_pause_one_tries_and_the_others_wait(circuit: Circuit, clock: Clock) -> None:
    failure(circuit)
    clock.now += FIRST_PAUSE
    trial = circuit.ticket()
    assert trial is not None
    assert circuit.ticket() is None
    assert circuit.succeeded(trial)
    assert circuit.ticket() is not None


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success(
    circuit: Circuit, clock: Clock
) -> None:
    pauses = []
    for _ in range(7):
        pauses.append(failure(circuit))
        clock.now += LONGEST_PAUSE
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
    trial = circuit.ticket()
    assert trial is not None
    assert circuit.succeeded(trial)
    assert failure(circuit) == FIRST_PAUSE


def test_those_who_failed_together_begin_one_pause(circuit: Circuit) -> None:
    tickets = [circuit.ticket() for _ in range(8)]
    assert [circuit.failed(ticket) for ticket in tickets if ticket is not None] == [FIRST_PAUSE, *[None] * 7]


def test_answer_to_an_older_question_neither_ends_nor_lengthens_the_pause(
    circuit: Circuit, clock: Clock
) -> None:
    slow, other = circuit.ticket(), circuit.ticket()
    assert slow is not None
    assert other is not None
    circuit.failed(other)
    assert not circuit.succeeded(slow)
    clock.now += FIRST_PAUSE
    trial = circuit.ticket()
    assert trial is not None
    assert circuit.failed(slow) is None
    assert circuit.succeeded(trial)


def test_one_who_tries_and_never_reports_is_followed_by_another(circuit: Circuit, clock: Clock) -> None:
    failure(circuit)
    clock.now += FIRST_PAUSE
    assert circuit.ticket() is not None
    clock.now += FIRST_PAUSE
    assert circuit.ticket() is not None


def test_of_many_threads_one_tries(circuit: Circuit, clock: Clock) -> None:
    failure(circuit)
    clock.now += FIRST_PAUSE
    barrier, tickets = threading.Barrier(16), list[int | None]()

    def ask() -> None:
        barrier.wait(30)
        tickets.append(circuit.ticket())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(ticket is not None for ticket in tickets) == 1
