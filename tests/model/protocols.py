"""The claim protocols as state machines: each method is one step, and yields the worlds that it can lead to.

A step is one statement, or one thing that a process does between two: other clients move in between. An accident
costs one of the world's ``accidents``; crashes and lost answers are possible at every step and are the explorer's.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.world import Client, Record, World

Worlds = Iterator[World]
REPEATS = 1


class Protocol:
    """What all claims share: ``execute()`` from the claimed operation to the answer that is heard."""

    first = "look"
    swallows_deadlocks = False

    def moves(self, world: World, me: int) -> Worlds:
        step: Worlds = getattr(self, world.clients[me].step)(world, me)
        return step

    def idle(self, world: World, me: int) -> Worlds:
        client = world.clients[me]
        if client.requests:
            yield world.step(me, self.first, requests=client.requests - 1, repeats=REPEATS)

    def view(self, world: World, me: int) -> Worlds:
        """The first of the view's two writes."""
        run = (world.clients[me].fingerprint, world.runs)
        yield world._replace(runs=world.runs + 1).step(me, "write", run=run, effects=frozenset({(run, 1)}))

    def write(self, world: World, me: int) -> Worlds:
        """The second write, and what comes of the view: an answer, or an accident."""
        client = world.clients[me]
        assert client.run is not None
        second = frozenset({(client.run, 2)})
        yield world.step(me, "complete", effects=client.effects | second)
        if world.accidents:
            yield self.not_stored(world.accident(), me)
            yield self.raised(world.accident(), me)
            yield self.again(world.accident(), me)
            if self.swallows_deadlocks:
                yield self.undone(world.accident(), me, second)

    def not_stored(self, world: World, me: int) -> World:
        """A 5xx: rolled back, and answered."""
        return world.put(me, world.clients[me].over())

    def raised(self, world: World, me: int) -> World:
        """A 4xx that was raised: rolled back, claimed again, and stored without the writes."""
        client = world.clients[me]
        return world.put(me, client.over(self.first, repeats=client.repeats, run=client.run, refusing=True))

    def undone(self, world: World, me: int, second: frozenset[tuple[tuple[str, int], int]]) -> World:
        """A deadlock whose error the view swallows: its transaction is gone, and it writes on in a new one."""
        gone = {"row": False, "advisory": False, "written": None, "undone": True}
        return world.step(me, "complete", effects=second, **gone)

    def again(self, world: World, me: int) -> World:
        """Roll back and run again, or 503 after so many times."""
        client = world.clients[me]
        if not client.repeats:
            return world.put(me, client.over())
        kept = {"run": client.run, "refusing": True} if client.refusing else {}
        return world.put(me, client.over(self.first, repeats=client.repeats - 1, **kept))

    def claimed(self, world: World, me: int, **changes: object) -> World:
        """Go on with the claim: to the view, or straight to the refusal that is to be stored."""
        return world.step(me, "complete" if world.clients[me].refusing else "view", **changes)

    def complete(self, world: World, me: int) -> Worlds:
        """``UPDATE … WHERE state AND attempt``: the fence. It waits for whoever has the row."""
        client = world.clients[me]
        if any(other.row for other in world.others(me)):
            return
        record = client.written or world.record
        if record is None or not self.stands(record, client):
            yield self.again(world, me)
        else:
            yield world.step(me, "commit", row=True, written=record._replace(answer=client.answer))

    def stands(self, record: Record, client: Client) -> bool:
        return record.answer is None and record.attempt == client.attempt

    def commit(self, world: World, me: int) -> Worlds:
        """COMMIT; the connection may be lost before the server has it, and after it has done it."""
        yield self.committed(world, me)
        if world.accidents:
            yield self.outcome_unknown(world.accident(), me)
            yield self.outcome_unknown(world.accident().commit(me), me)

    def committed(self, world: World, me: int) -> World:
        client = world.clients[me]
        record = client.written
        return world.commit(me).put(me, client.over("tell", seen=record))

    def outcome_unknown(self, world: World, me: int) -> World:
        """503: retry with the same key."""
        return world.put(me, world.clients[me].over())

    def answered(self, world: World, me: int, record: Record) -> World:
        """Replay, or 422: the transaction is over, and nothing was written."""
        client = world.clients[me]
        if record.fingerprint != client.fingerprint:
            return world.put(me, client.over())
        return world.put(me, client.over("tell", seen=record))

    def refused(self, world: World, me: int) -> World:
        """409, or 503 before anything ran."""
        return world.put(me, world.clients[me].over())

    def tell(self, world: World, me: int) -> Worlds:
        client = world.clients[me]
        assert client.seen is not None
        assert client.seen.answer is not None
        if client.seen.answer not in world.ended:
            world = world._replace(heard=world.heard | {(client.fingerprint, client.seen.answer)})
        yield world.put(me, client.over())


class RowLock(Protocol):
    """MariaDB: a row of its own transaction, then ``FOR UPDATE NOWAIT``."""

    swallows_deadlocks = True

    def look(self, world: World, me: int) -> Worlds:
        record = world.record
        if record is None:
            yield world.step(me, "insert")
        elif record.binds:
            yield self.answered(world, me, record)
        else:
            yield world.step(me, "lock")

    def insert(self, world: World, me: int) -> Worlds:
        """A short transaction of its own; IntegrityError means that somebody was faster."""
        created = world.record or Record(world.clients[me].fingerprint, 0)
        yield world._replace(record=created).step(me, "lock", advisory=False)

    def lock(self, world: World, me: int) -> Worlds:
        """NOWAIT, and read again under the lock."""
        if any(other.row for other in world.others(me)):
            yield self.refused(world, me)
        elif world.record is None:  # purged meanwhile
            yield self.again(world, me)
        elif world.record.binds:
            yield self.answered(world, me, world.record)
        else:
            yield world.step(me, "bump", row=True, seen=world.record)

    def bump(self, world: World, me: int) -> Worlds:
        client = world.clients[me]
        assert client.seen is not None
        attempt = client.seen.attempt + 1
        yield self.claimed(world, me, attempt=attempt, written=Record(client.fingerprint, attempt))


class RowLockOnPostgreSQL(RowLock):
    """The same; whoever inserts holds the key's advisory lock, and a deadlock cannot be swallowed."""

    swallows_deadlocks = False

    def look(self, world: World, me: int) -> Worlds:
        for after in super().look(world, me):
            yield world.step(me, "advise") if world.record is None else after

    def advise(self, world: World, me: int) -> Worlds:
        if any(other.advisory for other in world.others(me)):
            yield self.refused(world, me)
        else:
            yield world.step(me, "insert", advisory=True)

    def lock(self, world: World, me: int) -> Worlds:
        """The advisory lock first, for ``PostgreSQL`` may run without seeing a row."""
        if any(other.advisory for other in world.others(me)):
            yield self.refused(world, me)
        else:
            yield world.step(me, "lock_row", advisory=True)

    def lock_row(self, world: World, me: int) -> Worlds:
        yield from super().lock(world, me)


class RowLockRepeatableRead(RowLockOnPostgreSQL):
    """The same at REPEATABLE READ: a row that changed since the snapshot is a serialization failure."""

    def lock(self, world: World, me: int) -> Worlds:
        yield world.step(me, "lock_later", seen=world.record)

    def lock_later(self, world: World, me: int) -> Worlds:
        yield from super().lock(world, me)

    def lock_row(self, world: World, me: int) -> Worlds:
        held = any(other.row for other in world.others(me))
        if not held and world.record != world.clients[me].seen:
            yield self.again(world, me)
        else:
            yield from super().lock_row(world, me)


class PostgreSQL(RowLock):
    """The advisory lock stands for the record that does not exist yet."""

    first = "advise"
    swallows_deadlocks = False

    def advise(self, world: World, me: int) -> Worlds:
        yield world.step(me, "read", advisory=not any(other.advisory for other in world.others(me)))

    def read(self, world: World, me: int) -> Worlds:
        """The second statement of the same round trip, with a snapshot of its own."""
        yield self.decided(world, me, world.record)

    def decided(self, world: World, me: int, record: Record | None) -> World:
        if record is not None and record.binds:
            return self.answered(world, me, record)
        if not world.clients[me].advisory:
            return self.refused(world, me)
        return self.claimed(world, me) if record is None else world.step(me, "lock")

    def complete(self, world: World, me: int) -> Worlds:
        """One INSERT of the finished record, ON CONFLICT DO NOTHING; or the UPDATE of the one that is locked."""
        client = world.clients[me]
        if client.row:
            yield from super().complete(world, me)
        elif not any(other.written and not other.row for other in world.others(me)):
            yield self.insert_finished(world, me)

    def insert_finished(self, world: World, me: int) -> World:
        client = world.clients[me]
        if world.record is not None:
            return self.again(world, me)
        return world.step(me, "commit", written=Record(client.fingerprint, 1, client.answer))


class PostgreSQLRepeatableRead(PostgreSQL):
    """The snapshot is older than the lock, and a row that changed since is a serialization failure."""

    first = "snapshot"

    def snapshot(self, world: World, me: int) -> Worlds:
        yield world.step(me, "advise", seen=world.record)

    def read(self, world: World, me: int) -> Worlds:
        yield self.decided(world, me, world.clients[me].seen)

    def lock(self, world: World, me: int) -> Worlds:
        held = any(other.row for other in world.others(me))
        if not held and world.record != world.clients[me].seen:
            yield self.again(world, me)
        else:
            yield from super().lock(world, me)


class SQLite(RowLock):
    """The claim's INSERT takes the one write lock (``row`` here), or waits for it."""

    swallows_deadlocks = False

    def look(self, world: World, me: int) -> Worlds:
        if world.record is not None and world.record.binds:
            yield self.answered(world, me, world.record)
        else:
            yield world.step(me, "lock")

    def lock(self, world: World, me: int) -> Worlds:
        if any(other.row for other in world.others(me)):
            if world.accidents:  # busy beyond ``timeout``
                yield self.refused(world.accident(), me)
        elif world.record is None:
            fresh = Record(world.clients[me].fingerprint, 1)
            yield self.claimed(world, me, row=True, attempt=1, written=fresh)
        elif world.record.binds:
            yield self.answered(world, me, world.record)
        else:
            yield world.step(me, "bump", row=True, seen=world.record)
