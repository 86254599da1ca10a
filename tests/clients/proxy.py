"""A small TCP proxy on the loopback: its first request meets a fault, all others pass."""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType


class Proxy:
    """Passes requests on to ``port``, one per connection; ``keys`` and ``statuses`` say what went through.

    ``fault`` is the shop's accident of the first request (its ``X-Shop-Fault`` header); ``cut`` is when the
    client's connection of the first request is reset.
    """

    def __init__(self, port: int, *, fault: str = "", cut: str = "") -> None:
        self.target = port
        self.fault = fault
        self.cut = cut
        self.requests: list[bytes] = []
        self.statuses: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.settle()

    def settle(self) -> None:
        """Wait until the server has answered all that was passed on."""
        for thread in self._threads:
            thread.join(30)

    @property
    def keys(self) -> list[str]:
        found = [re.search(rb"(?i)\r\nidempotency-key: *([^\r]*)", request) for request in self.requests]
        return [match[1].decode() if match else "" for match in found]

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=[client], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            request = read_request(client)
            if not request:
                return
            first = not self.requests
            self.requests.append(request)
            header = f"\r\nX-Shop-Fault: {self.fault}".encode() if first and self.fault else b""
            cut = self.cut if first else ""
            if cut == "before the answer":
                reset(client)
            answer = self._forward(request.replace(b"\r\n", header + b"\r\nConnection: close\r\n", 1))
            if cut == "after the answer":
                reset(client)
            elif cut == "in the answer":
                client.sendall(answer[:-3])
                reset(client, abruptly=False)
            else:
                with suppress(OSError):  # reset before the answer, or given up by the client
                    client.sendall(answer)

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.target), timeout=30) as server:
            server.sendall(request)
            answer = b""
            with suppress(ConnectionError):
                while chunk := server.recv(65536):
                    answer += chunk
        status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
        self.statuses.append(int(status[1]) if status else 0)
        return answer


def read_request(client: socket.socket) -> bytes:
    """Return head and body of one request, or nothing when the client sends none."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (chunk := client.recv(65536)):
            return b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while len(body) < (int(length[1]) if length else 0):
        body += client.recv(65536)
    # One request per connection: the client must not think of the next.
    head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
    return head + b"\r\n\r\n" + body


def reset(client: socket.socket, *, abruptly: bool = True) -> None:
    """End a connection: by a reset, which throws away what is on its way, or by an early end of the stream."""
    if abruptly:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
