"""The claim protocols keep the invariants in every interleaving; protocols that are wrong do not.

``row_lock`` is as it is on MariaDB, ``row_lock_pg`` on PostgreSQL; ``_rr`` are both at REPEATABLE READ.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.model.explorer import Violation, explore
from tests.model.protocols import (
    PostgreSQL,
    PostgreSQLRepeatableRead,
    Protocol,
    RowLock,
    RowLockOnPostgreSQL,
    RowLockRepeatableRead,
    SQLite,
    Worlds,
)
from tests.model.world import Client, Record, World
from tests.proofs import note

pytestmark = pytest.mark.once

PROTOCOLS: dict[str, Protocol] = {
    "row_lock": RowLock(),
    "row_lock_pg": RowLockOnPostgreSQL(),
    "row_lock_rr": RowLockRepeatableRead(),
    "postgresql": PostgreSQL(),
    "postgresql_rr": PostgreSQLRepeatableRead(),
    "sqlite": SQLite(),
}
SINGLE = [(name, name) for name in PROTOCOLS]
ROLLING_DEPLOYS = [("postgresql", "row_lock_pg"), ("postgresql_rr", "row_lock_rr")]


@pytest.fixture(autouse=True)
def _without_garbage_collection() -> Iterator[None]:
    """Hundreds of thousands of tuples without a cycle: looking for one takes a third of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kinds", SINGLE + ROLLING_DEPLOYS, ids=" and ".join)
def test_two_clients_that_retry_keep_every_invariant(
    kinds: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two requests each, with another fingerprint in the second client, and any two accidents."""
    clients = [Client(kind, fingerprint, requests=2) for kind, fingerprint in zip(kinds, "ab", strict=True)]
    report(capsys, kinds, clients, accidents=2)


@pytest.mark.parametrize("kinds", SINGLE + ROLLING_DEPLOYS, ids=" and ".join)
def test_three_clients_keep_every_invariant(
    kinds: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the same request and one of another, and any accident: two where each statement has its snapshot."""
    clients = [
        Client(kind, print_, requests=1) for kind, print_ in zip((*kinds, kinds[0]), "aab", strict=True)
    ]
    report(capsys, kinds, clients, accidents=1 if kinds[0].endswith("_rr") else 2)


def report(
    capsys: pytest.CaptureFixture[str], kinds: tuple[str, str], clients: list[Client], accidents: int
) -> None:
    counts = explore({kind: PROTOCOLS[kind] for kind in kinds}, clients, accidents)
    assert counts.states > 1000
    protocols = " and ".join(sorted({*kinds}))
    figures = {"clients": len(clients), "accidents": accidents, "violations": 0}
    counted = {"states": counts.states, "transitions": counts.transitions, "retries": counts.retries}
    note("explorer", protocol=protocols, **figures, **counted)
    with capsys.disabled():
        title = f"{protocols}, {len(clients)} clients, {accidents} accidents"
        print(
            f"\n{title}: {counts.states:,} states, {counts.transitions:,} transitions, {counts.retries} retries"
        )


# Protocols that are wrong


def assert_caught(invariant: str, wrong: Protocol, beside: Protocol | None = None) -> None:
    kinds = {"wrong": wrong} if beside is None else {"wrong": wrong, "right": beside}
    clients = [Client("wrong", "a", requests=2), Client(list(kinds)[-1], "b", requests=2)]
    with pytest.raises(Violation, match=f"^{invariant}: "):
        explore(kinds, clients, accidents=2)


class StoreBeforeCommit(RowLock):
    """The answer is stored in a transaction of its own, and then the effects are committed."""

    def complete(self, world: World, me: int) -> Worlds:
        for after in super().complete(world, me):
            yield (
                after._replace(record=after.clients[me].written)
                if after.clients[me].step == "commit"
                else after
            )


def test_answer_stored_before_the_commit_is_noticed() -> None:
    assert_caught("I1, I2", StoreBeforeCommit())


class StoreAfterCommit(RowLock):
    """The effects are committed, and then the answer is stored in a transaction of its own."""

    def committed(self, world: World, me: int) -> World:
        effects = world.effects | world.clients[me].effects
        return world._replace(effects=effects).step(me, "store", effects=frozenset())

    def store(self, world: World, me: int) -> Worlds:
        yield super().committed(world, me)


def test_answer_stored_after_the_commit_is_noticed() -> None:
    assert_caught("I1, I2", StoreAfterCommit())


class NoFence(RowLock):
    """The closing UPDATE asks for the id alone."""

    def stands(self, record: Record, client: Client) -> bool:
        return True


def test_missing_fence_under_a_swallowed_deadlock_is_noticed() -> None:
    assert_caught("I1, I2", NoFence())


class FenceWithoutAttempt(RowLock):
    """The closing UPDATE asks for the state, and not for the attempt."""

    def stands(self, record: Record, client: Client) -> bool:
        return record.answer is None


def test_fence_without_the_attempt_is_noticed() -> None:
    assert_caught("I1, I2", FenceWithoutAttempt())


class AnyFingerprint(RowLock):
    """The stored answer is given to whoever has the key."""

    def answered(self, world: World, me: int, record: Record) -> World:
        return world.put(me, world.clients[me].over("tell", seen=record))


def test_replay_without_the_fingerprint_is_noticed() -> None:
    assert_caught("I5", AnyFingerprint())


class MismatchTakesOver(RowLock):
    """Another fingerprint counts as another operation, in the same record."""

    def answered(self, world: World, me: int, record: Record) -> World:
        if record.fingerprint != world.clients[me].fingerprint:
            return world.step(me, "bump", row=True, seen=record)
        return super().answered(world, me, record)


def test_mismatch_that_overwrites_the_record_is_noticed() -> None:
    assert_caught("I5", MismatchTakesOver())


class ClaimKept(RowLock):
    """A row in progress means that somebody is at work, whoever holds its lock."""

    def look(self, world: World, me: int) -> Worlds:
        if world.record is not None and world.record.answer is None:
            yield self.refused(world, me)
        else:
            yield from super().look(world, me)


def test_claim_that_outlives_its_transaction_is_noticed() -> None:
    assert_caught("I8", ClaimKept())


class SessionLock(PostgreSQL):
    """The advisory lock belongs to the session, which a pooler keeps when the transaction is rolled back."""

    def again(self, world: World, me: int) -> World:
        return super().again(world, me).step(me, "idle", advisory=True)

    def not_stored(self, world: World, me: int) -> World:
        return super().not_stored(world, me).step(me, "idle", advisory=True)


def test_lock_of_the_session_is_noticed() -> None:
    assert_caught("I8", SessionLock())


class NoSecondLook(RowLock):
    """What was read before the lock is taken for what is there."""

    def look(self, world: World, me: int) -> Worlds:
        for after in super().look(world, me):
            yield after.step(me, after.clients[me].step, seen=world.record) if world.record else after

    def lock(self, world: World, me: int) -> Worlds:
        seen = world.clients[me].seen
        if seen is None or any(other.row for other in world.others(me)):
            yield from super().lock(world, me)
        else:
            yield world.step(me, "bump", row=True)


def test_missing_second_look_under_the_lock_is_noticed() -> None:
    assert_caught("I5", NoSecondLook())


class NoLock(RowLock):
    """The state of the record is all that is asked."""

    def lock(self, world: World, me: int) -> Worlds:
        yield world.step(me, "bump", seen=world.record or Record("a", 0))


def test_missing_lock_is_noticed() -> None:
    assert_caught("I3", NoLock())


class RowBesideNoRow(RowLockOnPostgreSQL):
    """The row lock as it was before it shared a database with the claim that has no row."""

    def look(self, world: World, me: int) -> Worlds:
        yield from RowLock.look(self, world, me)

    def lock(self, world: World, me: int) -> Worlds:
        yield from RowLock.lock(self, world, me)


def test_row_that_is_inserted_without_the_advisory_lock_is_noticed_in_a_rolling_deploy() -> None:
    assert_caught("I3", RowBesideNoRow(), PostgreSQL())


class RowLockAlone(RowLockOnPostgreSQL):
    """A row that exists is claimed by its lock alone: enough at READ COMMITTED."""

    def lock(self, world: World, me: int) -> Worlds:
        yield from RowLock.lock(self, world, me)


def test_row_claimed_without_the_advisory_lock_is_noticed_beside_a_stale_snapshot() -> None:
    assert_caught("I3", RowLockAlone(), PostgreSQLRepeatableRead())


class RowLockedAnyway(RowLockOnPostgreSQL):
    """Both locks in one round trip: the row is taken for a moment though the advisory lock was refused."""

    def lock(self, world: World, me: int) -> Worlds:
        refused = any(other.advisory for other in world.others(me))
        free = not any(other.row for other in world.others(me))
        if refused and free:
            yield world.step(me, "leave", row=True)
        else:
            yield from super().lock(world, me)

    def leave(self, world: World, me: int) -> Worlds:
        yield self.refused(world, me)


def test_claims_that_refuse_each_other_until_none_is_left_are_noticed() -> None:
    clients = [Client("wrong", "a", requests=1)] * 3
    with pytest.raises(Violation, match=r"^I8: all refused each other"):
        explore({"wrong": RowLockedAnyway()}, clients, accidents=0)


class LockNotAsked(PostgreSQL):
    """No record is enough to run: the lock is tried, and its answer not read."""

    def decided(self, world: World, me: int, record: Record | None) -> World:
        return super().decided(world.step(me, "read", advisory=True), me, record)


def test_advisory_lock_that_is_not_asked_is_noticed() -> None:
    assert_caught("I3", LockNotAsked())


class ConflictIgnored(PostgreSQLRepeatableRead):
    """ON CONFLICT DO NOTHING, and nobody asks how many rows were inserted."""

    def insert_finished(self, world: World, me: int) -> World:
        kept = world.record or Record(world.clients[me].fingerprint, 1, world.clients[me].answer)
        return world.step(me, "commit", written=kept)


def test_insert_that_does_not_count_its_row_is_noticed() -> None:
    assert_caught("I1, I2", ConflictIgnored())


class ConflictOverwrites(PostgreSQLRepeatableRead):
    """ON CONFLICT DO UPDATE."""

    def insert_finished(self, world: World, me: int) -> World:
        client = world.clients[me]
        return world.step(me, "commit", written=Record(client.fingerprint, 1, client.answer))


def test_insert_that_overwrites_is_noticed() -> None:
    assert_caught("I5", ConflictOverwrites())


class SuccessAtLostCommit(RowLock):
    """The connection is lost at COMMIT, and the caller is told that all went well."""

    def outcome_unknown(self, world: World, me: int) -> World:
        client = world.clients[me]
        return world.put(me, client.over("tell", seen=client.written))


def test_success_told_of_a_lost_commit_is_noticed() -> None:
    assert_caught("I4, I10", SuccessAtLostCommit())


class FailureCommitted(SQLite):
    """An answer that is not stored leaves its writes."""

    def not_stored(self, world: World, me: int) -> World:
        return super().not_stored(world.commit(me)._replace(record=world.record), me)


def test_effects_of_an_answer_that_is_not_stored_are_noticed() -> None:
    assert_caught("I1, I2", FailureCommitted())


class RefusalWithoutClaim(RowLock):
    """A raised 4xx is stored after the roll-back without claiming again."""

    def raised(self, world: World, me: int) -> World:
        client = world.clients[me]
        assert client.run is not None
        kept = client.over("commit", run=client.run, refusing=True)
        return world.put(me, kept._replace(written=Record(client.fingerprint, client.attempt, kept.answer)))


def test_refusal_stored_without_a_claim_is_noticed() -> None:
    assert_caught("I5", RefusalWithoutClaim())


class ReadersOnly(SQLite):
    """A deferred transaction: it reads, runs, and takes the write lock when it writes the record."""

    def lock(self, world: World, me: int) -> Worlds:
        for after in super().lock(
            world._replace(clients=tuple(c._replace(row=False) for c in world.clients)), me
        ):
            yield after.step(me, after.clients[me].step, row=False)


def test_write_lock_that_is_not_taken_by_the_claim_is_noticed() -> None:
    assert_caught("I3", ReadersOnly())
