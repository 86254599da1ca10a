"""A PostgreSQL primary and its standby: the primary can be killed, the standby promoted, and the dead one replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any

import psycopg

from tests import servers

NAME = "standby"


class Pair:
    """Two seats for servers: in ``primary`` is the one that takes writes, in ``other`` its standby, or nobody.

    A COMMIT is answered when the standby has written it too, and waits for as long as there is none. ``fsync``
    is off: processes die here, and no disk. ``host`` names both, as a HOST of Django's may.
    """

    def __init__(self, folder: Path, lives: ExitStack) -> None:
        self.primary, self.other = folder / "a", folder / "b"
        self.host = f"{self.primary},{self.other}"
        self.prefix = servers._unprivileged(folder, SIGINT)
        self.programs = servers._postgres_programs(self.prefix)
        self.lives = lives

    def begin(self) -> None:
        """Make the first primary, its standby, and an empty database."""
        self.primary.mkdir()
        servers._unprivileged(self.primary, SIGINT)
        cluster = [
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--wal-segsize=1",
        ]
        self.finish(self.primary, "initdb", "-D", str(self.primary / "data"), *cluster)
        with (self.primary / "data" / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(f"listen_addresses = ''\nfsync = off\nsynchronous_standby_names = '{NAME}'\n")
        self.start(self.primary)
        self.stand_by()
        self.finish(self.primary, "createdb", "-h", str(self.primary), "-U", "postgres", servers.DATABASE)

    def finish(self, seat: Path, program: str, *arguments: str) -> None:
        servers._finish([*self.prefix, str(self.programs / program), *arguments], seat)

    def start(self, seat: Path) -> None:
        """Start the server of a seat, until it answers."""
        data = seat / "data"
        command = [*self.prefix, str(self.programs / "postgres"), "-D", str(data), "-k", str(seat)]
        ready = servers._postgres_is_ready
        self.lives.enter_context(servers._running(command, seat, lambda: ready(data), SIGINT))

    def stand_by(self, seat: Path | None = None, name: str = NAME) -> None:
        """Put a new standby into the other seat, or into another one."""
        seat = seat or self.other
        shutil.rmtree(seat, ignore_errors=True)
        seat.mkdir()
        servers._unprivileged(seat, SIGINT)
        source = f"host={self.primary} user=postgres application_name={name}"
        how = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        self.finish(seat, "pg_basebackup", "-D", str(seat / "data"), "-d", source, *how)
        self.start(seat)

    def crash(self, seat: Path) -> None:
        """Kill a server with SIGKILL; its seat can be started again."""
        servers.crash(seat)
        (seat / "data" / "postmaster.pid").unlink()  # it still says "ready"

    def promote(self) -> None:
        """Make the standby the primary; the other seat has nobody then."""
        self.sql("SELECT pg_promote()", self.other)
        self.primary, self.other = self.other, self.primary

    def sql(self, statement: str, seat: Path | None = None) -> list[tuple[Any, ...]]:
        """Run a statement on the primary, or on the server of a seat."""
        place = {"host": str(seat or self.primary), "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**place, autocommit=True) as session:
            found = session.execute(statement)
            return found.fetchall() if found.description else []

    def configure(self, setting: str) -> None:
        """Change a setting of the primary, which takes it up at once."""
        self.sql(f"ALTER SYSTEM SET {setting}")
        self.sql("SELECT pg_reload_conf()")

    def mend(self) -> None:
        """Give the primary its standby back, and its settings."""
        if not servers._postgres_is_ready(self.other / "data"):
            self.start(self.other)
        self.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.sql("SELECT pg_reload_conf()")

    def waiting(self, since: str = "0") -> list[int]:
        """Return the sessions of the primary whose COMMIT has waited for the standby for so long."""
        long = f"clock_timestamp() - query_start > interval '{since}'"
        found = self.sql(f"SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {long}")
        return [pid for (pid,) in found]


@contextmanager
def pair() -> Iterator[Pair]:
    """Run a primary and its standby."""
    with servers._folder() as name, ExitStack() as lives:
        both = Pair(Path(name), lives)
        both.begin()
        yield both
