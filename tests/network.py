"""A PostgreSQL with a network of its own that can go down, as when a host loses its power: nobody says goodbye.

Its Unix socket is reached from outside all the same.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGINT

from tests import servers

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


class Island:
    """The server's folder, and the network that only it and what was connected ``inside()`` have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._namespace = Path("/proc", (folder / "server.pid").read_text("ascii").strip(), "ns", "net")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Give this thread the server's network; a socket keeps the network that it was made in."""
        with Path("/proc/thread-self/ns/net").open("rb") as own, self._namespace.open("rb") as other:
            os.setns(other.fileno(), os.CLONE_NEWNET)
            try:
                yield
            finally:
                os.setns(own.fileno(), os.CLONE_NEWNET)

    def switch(self, *, on: bool) -> None:
        """Take the network up, or down: every packet is lost."""
        with self.inside(), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_socket:
            request = struct.pack("16sH14x", b"lo", IFF_UP if on else 0)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


@contextmanager
def island() -> Iterator[Island]:
    """Run the server, its network being up. Raises ServerMissing where that is not allowed."""
    own = ["unshare", "-n"]
    if os.geteuid() or not servers._works([*own, "true"]):
        raise servers.ServerMissing("a network of its own needs root, and a kernel that allows namespaces")
    with servers._folder() as name:
        folder, data = Path(name), Path(name, "data")
        prefix = servers._unprivileged(folder, SIGINT)
        programs = servers._postgres_programs(prefix)
        cluster = ["-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        servers._finish([*prefix, str(programs / "initdb"), *cluster], folder)
        flags = ["-k", name, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [*own, *prefix, str(programs / "postgres"), "-D", str(data), *flags]
        with servers._running(command, folder, lambda: servers._postgres_is_ready(data), SIGINT):
            place = Island(folder)
            place.switch(on=True)
            yield place
