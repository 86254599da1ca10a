"""The private servers: they answer, they end with whoever started them, and a command's exit code comes through."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers

pytestmark = pytest.mark.once

TELL_PID = (
    "import os, pathlib, time; place = pathlib.Path(os.environ['DATABASE_HOST']);"
    "folder = place if place.is_dir() else place.parent;"
    "print((folder / 'server.pid').read_text().strip(), flush=True);"
    "time.sleep(60)"
)


@pytest.fixture(params=["postgres", "mariadb"])
def engine(request: pytest.FixtureRequest) -> str:
    """Give each server that this machine has."""
    try:
        if request.param == "postgres":
            servers._postgres_programs([])
        else:
            servers._program("mariadbd", "apt-get install mariadb-server-core mariadb-client-core")
    except servers.ServerMissing as problem:
        pytest.skip(str(problem))
    return request.param


def connect(settings: dict[str, str]) -> list[str]:
    """Give the names of the databases that a client sees on the server."""
    if settings["DATABASE_ENGINE"] == "postgres":
        import psycopg

        place = {"host": settings["DATABASE_HOST"], "user": settings["DATABASE_USER"]}
        with psycopg.connect(**place, dbname=settings["DATABASE_NAME"]) as connection:
            return [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
    import pymysql

    place = {"unix_socket": settings["DATABASE_HOST"], "user": settings["DATABASE_USER"]}
    with pymysql.connect(**place) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        return [name for (name,) in cursor.fetchall()]


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended, but that nobody has asked about yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pid: int) -> bool:
    """Tell whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


@contextlib.contextmanager
def runner(engine: str, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command line of `tests.servers`."""
    arguments = [sys.executable, "-m", "tests.servers", engine, "--", *command]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_server_answers_and_is_gone_afterwards(engine: str) -> None:
    with servers.server(engine, durable=True) as settings:
        assert "shop" in connect(settings)
        place = Path(settings["DATABASE_HOST"])
    assert not place.exists()


def test_redis_answers_keeps_nothing_and_is_gone_afterwards() -> None:
    import redis

    with servers.redis() as path, redis.Redis(unix_socket_path=path) as client:
        assert client.set("key", "value")
        assert (client.config_get("save"), client.config_get("appendonly")) == (
            {"save": ""},
            {"appendonly": "no"},
        )
        assert client.config_get("port") == {"port": "0"}
    assert not Path(path).parent.exists()


def test_postgres_is_stopped_under_a_client_that_stays() -> None:
    import psycopg

    with servers.server("postgres") as settings:
        place = {"host": settings["DATABASE_HOST"], "user": settings["DATABASE_USER"]}
        client = psycopg.connect(**place, dbname=settings["DATABASE_NAME"])
        started = time.monotonic()
    assert time.monotonic() - started < servers.STOP_SECONDS / 2
    client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_its_runner(engine: str, number: signal.Signals) -> None:
    with runner(engine, sys.executable, "-c", TELL_PID) as process:
        pid = int(process.stdout.readline())
        assert is_running(pid)
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        process.send_signal(number)
        assert wait_for_end(pid)
    remove_left_over_folder(arguments)


def remove_left_over_folder(arguments: list[str]) -> None:
    """Remove what a killed runner could not: the folder that is named in its server's arguments."""
    for argument in arguments:
        folder = Path(argument.rpartition("=")[2]).parent
        if folder.name.startswith("idem-"):
            shutil.rmtree(folder, ignore_errors=True)


def test_sqlite_gets_a_file_in_a_folder_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_NAME", raising=False)
    with servers.server("sqlite") as settings:
        file = Path(settings["DATABASE_NAME"])
        file.touch()
    assert settings["DATABASE_ENGINE"] == "sqlite"
    assert not file.parent.exists()


def test_sqlite_keeps_the_file_that_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_NAME", str(tmp_path / "kept.sqlite3"))
    with servers.server("sqlite") as settings:
        assert settings["DATABASE_NAME"] == str(tmp_path / "kept.sqlite3")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_of_the_command_comes_through(script: str, code: int) -> None:
    with runner("sqlite", "sh", "-c", script) as process:
        assert process.wait(20) == code


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.shutil, "which", lambda name, path=None: None)
    missing = pytest.raises(servers.ServerMissing, match="apt-get install mariadb-server-core")
    with missing, servers.server("mariadb"):
        pytest.fail("it cannot have started")


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo no room on the disk; exit 1"]
    failed = pytest.raises(servers.ServerFailed, match="no room on the disk")
    with failed, servers._running(command, tmp_path, lambda: False, signal.SIGTERM):
        pytest.fail("it cannot have started")


def test_server_that_starts_leaves_the_temporary_tables_of_others_alone(engine: str) -> None:
    """MariaDB deletes what looks like its own in the folder for such files: the machine's, unless it gets another."""
    table = Path(tempfile.gettempdir(), f"#sql-temptable-{os.getpid():x}-f-1.MAI")
    table.touch()
    try:
        with servers.server(engine):
            assert table.exists()
    finally:
        table.unlink(missing_ok=True)
