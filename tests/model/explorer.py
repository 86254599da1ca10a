"""Every world that the clients can reach, step by step, and what must be true in each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.model.protocols import Protocol
from tests.model.world import Client, World

EXECUTING = {"view", "write", "complete", "commit"}


class Violation(AssertionError):
    """An invariant does not hold; the message is the shortest way there."""


class Counts(NamedTuple):
    """How much was explored."""

    states: int
    transitions: int
    retries: int


def explore(protocols: Mapping[str, Protocol], clients: Sequence[Client], accidents: int) -> Counts:
    """Visit every reachable world, the nearest first; raise Violation at the first that breaks an invariant."""
    start = World(tuple(clients), accidents).ordered()
    parents: dict[World, World | None] = {start: None}
    retried: set[tuple[object, ...]] = set()
    waiting, transitions = deque([start]), 0
    while waiting:
        world = waiting.popleft()
        reached = [after.ordered() for after in following(protocols, world)]
        transitions += len(reached)
        broken = broken_here(world, stuck=not reached)
        for after in reached:
            broken = broken or broken_between(world, after)
            if after not in parents:
                parents[after] = world
                waiting.append(after)
        if broken is None and all(client.step == "idle" for client in world.clients):
            broken = broken_for_a_retry(protocols, world, retried)
            if not reached and world.accidents == accidents and not world.runs:
                broken = "I8: all refused each other, and nobody ran"
        if broken:
            raise Violation("\n".join([broken, *way_to(world, parents)]))
    return Counts(len(parents), transitions, len(retried))


def following(protocols: Mapping[str, Protocol], world: World) -> Iterator[World]:
    """Yield every world that one step, one crash or the passing of time leads to."""
    for me, client in enumerate(world.clients):
        if me and client == world.clients[me - 1]:
            continue
        yield from protocols[client.protocol].moves(world, me)
        if world.accidents and client.step != "idle":
            yield world.accident().put(me, client.over())  # the process dies, or the answer is lost
    yield from time_passes(world)


def time_passes(world: World) -> Iterator[World]:
    """A record expires, and a purge deletes what binds nobody and is not locked."""
    record = world.record
    if record is None:
        return
    if record.binds and world.accidents:
        yield world.accident().expire()
    free = not any(client.row for client in world.clients)
    if free and record.expired:
        yield world._replace(record=None)
    elif free and record.answer is None and world.accidents:
        yield world.accident()._replace(record=None)


def broken_here(world: World, *, stuck: bool) -> str | None:
    """Return the invariant that does not hold in this world."""
    executing = [c for c in world.clients if c.step in EXECUTING and not c.undone and not c.refusing]
    if len(executing) > 1:
        return "I3: two executions at the same time"
    stored = world.record.answer if world.record is not None and world.record.binds else None
    owed = set() if stored is None or stored.refusal else {(stored.run, 1), (stored.run, 2)}
    if world.effects != owed:
        return "I1, I2: what is stored is not what is committed"
    if any(answer != stored for _, answer in world.heard):
        return "I4, I10: somebody heard an answer that is not the stored one"
    if any(fingerprint != answer.run[0] for fingerprint, answer in world.heard):
        return "I5: somebody heard the answer to another request"
    if stuck and any(client.step != "idle" for client in world.clients):
        return "I8: nobody can go on"
    return None


def broken_between(world: World, after: World) -> str | None:
    """Return the invariant that this step breaks: a record that binds is never changed."""
    if world.record is None or not world.record.binds:
        return None
    if after.record is not None and after.record._replace(expired=False) == world.record:
        return None
    return f"I5: a record that binds was changed to {after.record}"


def broken_for_a_retry(
    protocols: Mapping[str, Protocol], world: World, retried: set[tuple[object, ...]]
) -> str | None:
    """Let one more client try while nobody else is there: at once, it must get what is stored, or store its own."""
    for name in protocols:
        client = Client(name, "a", 1)
        left = [c for c in world.clients if c.row or c.advisory]
        alone = World((client, *left), 0, world.record, world.effects, world.runs)
        if (name, *alone) not in retried:
            retried.add((name, *alone))
            while (
                len(reached := [w for w in following(protocols, alone) if w.record or not alone.record]) == 1
            ):
                (alone,) = reached
            if alone.record is None or not alone.record.binds:
                return f"I8: a retry by {name} is refused though nobody is there"
    return None


def way_to(world: World | None, parents: Mapping[World, World | None]) -> Iterator[str]:
    """Yield the worlds that lead to this one, as lines."""
    way = []
    while world is not None:
        way.append(world)
        world = parents[world]
    for each in reversed(way):
        yield f"  record {each.record}, effects {sorted(each.effects)}"
        yield from (f"    {client}" for client in each.clients)
