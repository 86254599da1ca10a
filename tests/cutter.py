"""A proxy before the database's Unix socket that cuts a connection exactly at COMMIT.

``before``: the server never gets the COMMIT, and sees its client go. ``after``: the server did it and has said so, and
the answer gets no further.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: How PostgreSQL's and MariaDB's clients say COMMIT; it is all that they send at that moment.
COMMITS = {b"Q\x00\x00\x00\x0bCOMMIT\x00", b"\x07\x00\x00\x00\x03COMMIT"}
SOCKET = ".s.PGSQL.5432"


class Cutter:
    """Passes connections on to the socket ``target``; ``host`` is what takes a client's HOST to it instead."""

    def __init__(self, target: Path, folder: Path) -> None:
        self.target = target / SOCKET if target.is_dir() else target
        self.path = folder / SOCKET
        self.host = str(folder if target.is_dir() else self.path)
        self.cuts = {"before": 0, "after": 0}
        self._wanted: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self.path.chmod(0o777)

    def arm(self, moment: str) -> None:
        """Cut the connection of whoever says COMMIT next."""
        self._wanted.append(moment)

    def disarm(self) -> None:
        """Cut nothing any more."""
        self._wanted.clear()

    def serve(self) -> None:
        """Take connections until ``close()``."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                start(lambda client=client: _Line(self, client).open())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def due(self, sent: bytes) -> str:
        """Return how to cut the connection on which ``sent`` goes to the server, or nothing."""
        if sent not in COMMITS:
            return ""
        try:
            moment = self._wanted.pop()
        except IndexError:  # nobody armed it, or another connection was faster
            return ""
        self.cuts[moment] += 1
        return moment


class _Line:
    """One client's connection, and the one to the server that stands for it."""

    def __init__(self, cutter: Cutter, client: socket.socket) -> None:
        self.cutter = cutter
        self.client = client
        self.server = socket.socket(socket.AF_UNIX)
        self.answer_is_lost = False

    def open(self) -> None:
        try:
            self.server.connect(str(self.cutter.target))
        except OSError:
            self.cut()
            return
        start(lambda: self.pump(self.server, self.client, lambda answer: self.answer_is_lost))
        self.pump(self.client, self.server, self.is_cut_before)

    def is_cut_before(self, sent: bytes) -> bool:
        moment = self.cutter.due(sent)
        # Set before the COMMIT is passed on: what the server says next is the answer to it.
        self.answer_is_lost = moment == "after"
        return moment == "before"

    def pump(self, source: socket.socket, sink: socket.socket, is_end: Callable[[bytes], bool]) -> None:
        with suppress(OSError):
            while (data := source.recv(65536)) and not is_end(data):
                sink.sendall(data)
        self.cut()

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def start(function: Callable[[], None]) -> None:
    threading.Thread(target=function, daemon=True).start()


@contextmanager
def cutter(host: str) -> Iterator[Cutter]:
    """Stand before the database whose HOST is the socket (MariaDB) or the socket's folder (PostgreSQL)."""
    with tempfile.TemporaryDirectory(prefix="idem-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        proxy = Cutter(Path(host), Path(name))
        start(proxy.serve)
        try:
            yield proxy
        finally:
            proxy.close()
