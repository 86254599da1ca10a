"""Processes forked from one that has imported everything: a killed one costs a fork, not a start.

As a module, ``python -m tests.prefork FD COUNT``, it serves the project by uvicorn on the inherited socket FD, in COUNT
processes of which each that dies is replaced at once; ``run_command()`` runs a management command in one of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import NoReturn


def run_command(arguments: list[str], environment: dict[str, str], output: Path) -> int:
    """Run a command of the project and return the exit code of its process, negative for a signal."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([f"{__package__}.ready"])
    before = dict(os.environ)
    os.environ.update(environment)  # the server of the forks starts with the first of them, and keeps it
    try:
        process = forks.Process(target=_command, args=(arguments, environment, output))
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    process.join(timeout=60)
    assert process.exitcode is not None, f"{arguments} did not end within a minute"
    return process.exitcode


def _command(arguments: list[str], environment: dict[str, str], output: Path) -> None:
    from django.core.management import execute_from_command_line

    from tests import crash_points

    os.environ.update(environment)
    crash_points.journey.begin(environment.get(crash_points.VARIABLE, ""))
    with output.open("w", encoding="utf-8") as out, redirect_stdout(out):
        execute_from_command_line(["manage.py", *arguments])


def serve(fd: int, count: int) -> NoReturn:
    """Keep ``count`` servers alive until this process is told to end."""
    import uvicorn

    from example_project.asgi import application

    alive: set[int] = set()
    listener = socket.socket(fileno=fd)
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", access_log=False))

    def end(*_: object) -> NoReturn:
        for pid in alive:
            os.kill(pid, signal.SIGTERM)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        while len(alive) < count:
            signal.pthread_sigmask(
                signal.SIG_BLOCK, [signal.SIGTERM]
            )  # or one that is not in the set lives on
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
                server.run(sockets=[listener])
                os._exit(0)
            alive.add(pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        alive.discard(os.wait()[0])


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
