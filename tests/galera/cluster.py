"""A private Galera cluster of three MariaDB nodes, whose nodes can be killed and started again.

The nodes talk to each other on free ports of 127.0.0.1, and to clients through a Unix socket each. Every commit reaches
the disk. Galera's own time-outs are left as they are: a lost node is noticed after five seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql

from tests import servers
from tests.machine import GALERA
from tests.servers import ServerFailed, ServerMissing

NODES = 3
READY_SECONDS = 90.0
_FROM_DEBIAN = "it comes with dev.py test, which asks apt-get for it"


class Node:
    """One server of the cluster, in a folder of its own."""

    def __init__(self, number: int, folder: Path, ports: list[int], peers: str) -> None:
        self.name, self.folder = f"node{number}", folder
        self.data, self.socket, self.log = folder / "data", folder / "mariadb.sock", folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self.data.mkdir()
        group, transfer, increments = ports
        options = f"gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{increments}"
        self._flags = [
            *(f"--datadir={self.data}", f"--tmpdir={folder}"),
            *(f"--socket={self.socket}", f"--pid-file={folder / 'mariadb.pid'}"),
            *("--skip-networking", "--max-connections=300", "--character-set-server=utf8mb4"),
            *("--innodb-fast-shutdown=2", "--innodb-flush-log-at-trx-commit=2"),
            *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"),
            *(f"--wsrep-provider={GALERA / 'usr/lib/galera/libgalera_smm.so'}", "--wsrep-sst-method=rsync"),
            *(f"--wsrep-node-name={self.name}", f"--wsrep-node-address=127.0.0.1:{group}"),
            *(f"--wsrep-cluster-address={peers}", f"--wsrep-sst-receive-address=127.0.0.1:{transfer}"),
            f"--wsrep-provider-options={options};gcache.size=64M",
        ]

    def install(self) -> None:
        """Fill the data folder; a node without one of its own gets its data from the others."""
        program = servers._program("mariadb-install-db", _FROM_DEBIAN)
        root = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        servers._finish([*self._prefix(), program, "--no-defaults", *self._flags[:2], *root], self.folder)

    def start(self, *flags: str) -> None:
        """Start the server; it gets ready in its own time."""
        place = self._position()
        begin = [f"--wsrep-start-position={place}"] if place else []
        with _searched_first(GALERA / "usr"):
            self.process = servers._launch([*self._command(), *begin, *flags], self.folder)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as the loss of its machine would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop the server, unless it has ended."""
        if self.process is not None:
            servers._stop(self.process, signal.SIGTERM)

    def has_ended(self) -> bool:
        """Tell whether the server was started and runs no more."""
        return self.process is not None and self.process.poll() is not None

    def is_synced(self) -> bool:
        """Tell whether the node has all data and takes statements; raise ServerFailed when it has ended."""
        if self.has_ended():
            raise ServerFailed(f"{self.name} has ended:\n{servers._tail(self.folder)}")
        # Not by a connection of PyMySQL's alone: it forgets the socket of one that is refused.
        if not servers._greets(self.socket):
            return False
        return bool(self.ask("SHOW STATUS LIKE 'wsrep_local_state_comment'")[1] == "Synced")

    def ask(self, statement: str) -> Any:
        """Send a statement, commit it, and give the first row of its result."""
        client = pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True, read_timeout=60)
        with client, client.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    def _prefix(self) -> list[str]:
        return servers._unprivileged(self.folder, signal.SIGTERM)

    def _command(self) -> list[str]:
        return [
            *self._prefix(),
            servers._program("mariadbd", _FROM_DEBIAN),
            "--no-defaults",
            *self._flags,
        ]

    def _position(self) -> str:
        """Read from the data of a killed node how far it had come, as Galera's own galera_recovery does."""
        if not (self.data / "ibdata1").exists():
            return ""
        log = self.folder / "recovery.log"
        with log.open("wb") as out, _searched_first(GALERA / "usr"):
            subprocess.run(
                [*self._command(), "--wsrep-recover"], cwd=self.folder, stdout=out, stderr=out, timeout=60
            )
        found = re.findall(r"Recovered position: *(\S+)", log.read_text(encoding="utf-8", errors="replace"))
        return found[-1] if found else ""


class Cluster:
    """The nodes, in the order of their numbers."""

    def __init__(self, folder: Path) -> None:
        ports = servers._free_ports(3 * NODES)
        shares = [ports[3 * number : 3 * number + 3] for number in range(NODES)]
        peers = "gcomm://" + ",".join(f"127.0.0.1:{group}" for group, *_ in shares)
        self.nodes = [Node(number, folder / str(number), share, peers) for number, share in enumerate(shares)]

    def start(self) -> None:
        """Start the first node with new data, then the others, which get theirs from it."""
        first, *others = self.nodes
        first.install()
        first.start("--wsrep-new-cluster")
        wait_until(first.is_synced, first)
        first.ask(f"CREATE DATABASE {servers.DATABASE} CHARACTER SET utf8mb4")
        self.bring_back(*others)

    def bring_back(self, *nodes: Node) -> None:
        """Start nodes, and wait until they have what was committed meanwhile."""
        for node in nodes:
            node.start()
        for node in nodes:
            wait_until(node.is_synced, node)

    def heal(self) -> None:
        """Bring back every node that has ended."""
        self.bring_back(*(node for node in self.nodes if node.has_ended()))

    def catch_up(self) -> None:
        """Wait until every node has all that is committed at any."""
        for node in self.nodes:
            node.ask("SET STATEMENT wsrep_sync_wait=1 FOR SELECT 1 FROM mysql.user")

    def stop(self) -> None:
        """Stop all nodes, none of which waits for another."""
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run three nodes, and stop and remove them at the end. Raises ServerMissing or ServerFailed.

    Start it, and every node again, from a thread that outlives it: the kernel takes the end of the starting thread for
    the death of the parent.
    """
    if not GALERA.exists():
        raise ServerMissing(f"Galera is missing: {_FROM_DEBIAN}")
    # What the transfer of data to a new node is made of, beside rsync.
    for program, package in {"ss": "iproute2", "ps": "procps"}.items():
        servers._program(program, f"apt-get install {package}")
    with servers._folder() as path:
        nodes = Cluster(Path(path))
        try:
            nodes.start()
            yield nodes
        finally:
            nodes.stop()


def wait_until(true: Callable[[], bool], node: Node) -> None:
    """Wait for what a node comes to; raise ServerFailed with its log when it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise ServerFailed(f"{node.name} did not get there:\n{servers._tail(node.folder)}")
        time.sleep(0.02)


@contextlib.contextmanager
def _searched_first(place: Path) -> Iterator[None]:
    """Let what is started find the programs and libraries of a folder, as if they were installed."""
    places = {"PATH": [place / "bin"], "LD_LIBRARY_PATH": list((place / "lib").glob("*-linux-gnu"))}
    before = {name: os.environ.get(name) for name in places}
    try:
        for name, folders in places.items():
            rest = [before[name]] if before[name] else []
            os.environ[name] = os.pathsep.join([*map(str, folders), *filter(None, rest)])
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
