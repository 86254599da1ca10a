"""The world that the claim protocols run in: one key, one record, the effects, and the clients that want it.

A client is a server process and the caller behind it. Its transaction is part of it, so a crash takes both. Locks
are flags of their holder, and clients are kept in a fixed order: worlds that differ by their clients' names only
are one world.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Run = tuple[str, int]
"""One execution: its fingerprint, and its number."""

Effect = tuple[Run, int]
"""A write of a view: the run, and which of its two writes it is."""


class Answer(NamedTuple):
    """What a run came to; a refusal (a 4xx that was raised) is stored without effects."""

    run: Run
    refusal: bool = False


class Record(NamedTuple):
    """The row; ``answer`` is None while it is in progress."""

    fingerprint: str
    attempt: int
    answer: Answer | None = None
    expired: bool = False

    @property
    def binds(self) -> bool:
        return self.answer is not None and not self.expired


class Client(NamedTuple):
    """Where a client is in its protocol, and what its transaction has read, written and locked."""

    protocol: str
    fingerprint: str
    requests: int
    step: str = "idle"
    repeats: int = 0
    seen: Record | None = None
    written: Record | None = None
    effects: frozenset[Effect] = frozenset()
    row: bool = False
    advisory: bool = False
    attempt: int = 0
    run: Run | None = None
    refusing: bool = False
    undone: bool = False

    def over(self, step: str = "idle", **kept: Any) -> Client:
        """Return the client without its transaction: rolled back, or committed and done with."""
        return Client(self.protocol, self.fingerprint, self.requests, step, **kept)

    @property
    def answer(self) -> Answer:
        assert self.run is not None
        return Answer(self.run, self.refusing)


class World(NamedTuple):
    """What is committed, what the clients are doing, and what the callers have heard."""

    clients: tuple[Client, ...]
    accidents: int
    record: Record | None = None
    effects: frozenset[Effect] = frozenset()
    runs: int = 0
    heard: frozenset[tuple[str, Answer]] = frozenset()
    ended: frozenset[Answer] = frozenset()

    def put(self, me: int, client: Client) -> World:
        """Return the world with this client in the place of ``me``."""
        return self._replace(clients=(*self.clients[:me], client, *self.clients[me + 1 :]))

    def ordered(self) -> World:
        """Return the same world, whatever the order of its clients."""
        return self._replace(clients=tuple(sorted(self.clients, key=hash)))

    def step(self, me: int, step: str, **changes: Any) -> World:
        """Return the world in which client ``me`` goes on to ``step``."""
        return self.put(me, self.clients[me]._replace(step=step, **changes))

    def accident(self) -> World:
        return self._replace(accidents=self.accidents - 1)

    def others(self, me: int) -> tuple[Client, ...]:
        return self.clients[:me] + self.clients[me + 1 :]

    def commit(self, me: int) -> World:
        """Return the world with what client ``me`` wrote; its locks are gone when it leaves the step."""
        client = self.clients[me]
        return self._replace(record=client.written or self.record, effects=self.effects | client.effects)

    def expire(self) -> World:
        """Return the world in which the answer binds nobody any more; what was true of it is history."""
        assert self.record is not None
        assert self.record.answer is not None
        gone = self.record.answer
        return self._replace(
            record=self.record._replace(expired=True),
            effects=frozenset(effect for effect in self.effects if effect[0] != gone.run),
            heard=frozenset(each for each in self.heard if each[1] != gone),
            ended=self.ended | {gone},
        )
