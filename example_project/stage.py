"""The stage of ``demo.py``: servers, a client that may lose its connection, and what is printed."""

import http.client
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 4
HEADERS_SHOWN = ["Idempotent-Replayed", "Retry-After"]
BOLD, DIM, GREEN, RED = "1", "2", "32", "31"


def say(text: str = "", colour: str = "") -> None:
    """Print, in colour when somebody is looking at a terminal."""
    plain = not colour or not sys.stdout.isatty() or "NO_COLOR" in os.environ
    print(text if plain else f"\x1b[{colour}m{text}\x1b[0m", flush=True)


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 means that the connection was lost."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    milliseconds: float = 0.0

    @property
    def replayed(self) -> bool:
        """Whether this is the first answer once more."""
        return self.headers.get("Idempotent-Replayed") == "true"

    def __str__(self) -> str:
        shown = "".join(f"   {name}: {self.headers[name]}" for name in HEADERS_SHOWN if name in self.headers)
        return f"{self.status or '---'} {self.reason}{shown}   ({self.milliseconds:.0f} ms)"


@dataclass
class Demo:
    """A running shop, its customers' requests, and what was expected of them."""

    port: int
    environment: dict[str, str]
    wrong: int = 0
    steps: int = 0

    def step(self, title: str) -> None:
        """Open the next chapter."""
        self.steps += 1
        say(f"\n{self.steps}. {title}", BOLD)

    def request(
        self, method: str, path: str, body: Any, key: str, *, user: str = "alice", fault: str = ""
    ) -> Answer:
        """Send one request on a connection of its own; a lost connection is an answer too."""
        headers = {"Authorization": f"Token {user}-demo-token", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key} | ({"X-Shop-Fault": fault} if fault else {})
        start = time.perf_counter()
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                connection.request(method, path, json.dumps(body), headers)
                response = connection.getresponse()
                status, reason, content = response.status, response.reason, response.read()
        except ConnectionError:
            return Answer(0, "the connection is lost", milliseconds=(time.perf_counter() - start) * 1000)
        return Answer(status, reason, dict(response.headers), content, (time.perf_counter() - start) * 1000)

    def send(
        self, method: str, path: str, body: Any, key: str, *, user: str = "alice", fault: str = ""
    ) -> Answer:
        """Send one request and show it with its answer."""
        accident = f"   X-Shop-Fault: {fault}" if fault else ""
        say(f"   {user}: {method} {path}   Idempotency-Key: {key}{accident}")
        say(f"          {json.dumps(body)}", DIM)
        answer = self.request(method, path, body, key, user=user, fault=fault)
        say(f"      ->  {answer}")
        if answer.body:
            say(f"          {answer.body.decode()[:150]}", DIM)
        return answer

    def order(self, note: str, key: str, **options: Any) -> Answer:
        """Order a teapot; the note is how the order is found in the database afterwards."""
        return self.send("POST", "/api/orders/", {"product": 1, "quantity": 1, "note": note}, key, **options)

    def expect(self, what: str, expected: Any, found: Any) -> None:
        """Compare, show, and remember what is wrong."""
        right = expected == found
        self.wrong += not right
        say(f"      {'ok' if right else 'WRONG':5} {what}", GREEN if right else RED)
        if not right:
            say(f"            expected {expected!r}, found {found!r}", RED)

    def sql(self, statement: str, *values: Any) -> Any:
        """Run one statement on the shop's database and return its first value, if it has one."""
        with closing(sqlite3.connect(self.environment["DATABASE_NAME"], timeout=20)) as database, database:
            row = database.execute(statement, values).fetchone()
        return row[0] if row else None

    def manage(self, *arguments: str) -> None:
        """Run a management command and show what it prints."""
        say(f"   $ manage.py {' '.join(arguments)}")
        for line in manage(self.environment, *arguments).splitlines():
            say(f"          {line}", DIM)


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Run a management command of the example project and return what it prints."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def gunicorn(environment: dict[str, str], log: Path, *, threads: int = 1) -> Iterator[int]:
    """Serve the shop by WSGI for the length of the block, with ``threads`` in each worker, and yield the port."""
    options = ["--workers", str(WORKERS), "--threads", str(threads), "--preload", "--bind", "fd://{fd}"]
    with serving(["gunicorn", "example_project.wsgi", *options], environment, log) as (port, _):
        yield port


@contextmanager
def uvicorn(environment: dict[str, str], log: Path) -> Iterator[tuple[int, int]]:
    """Serve the shop by ASGI for the length of the block; yield the port and the server's process id."""
    options = ["--lifespan", "off", "--no-access-log", "--fd", "{fd}"]
    with serving(["uvicorn", "example_project.asgi:application", *options], environment, log) as served:
        yield served


@contextmanager
def serving(command: list[str], environment: dict[str, str], log: Path) -> Iterator[tuple[int, int]]:
    """Run a server's module; ``{fd}`` in its arguments is the socket. Yield the port and the process id.

    The socket is opened here and inherited: nobody else can take the port, and a request that comes before
    the workers are up waits in its queue.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("w") as output:
        # uvicorn takes an inherited socket for one of Unix, and so leaves this to whoever opened it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=listener.fileno()) for word in command)],
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield port, server.pid
    finally:
        stop(server)


def stop(server: subprocess.Popen[Any]) -> None:
    """End the server and its workers, by force if it must be."""
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
