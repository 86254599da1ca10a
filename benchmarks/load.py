"""Closed loops against gunicorn: rounds of every form in turn, and the ratio of each to another in the same round."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.requests import Form, keys, wire
from tests.servers import redis

WORKERS = 2
TOP = Path(__file__).resolve().parent.parent


@dataclass
class Round:
    """What one form did in one round."""

    seconds: float
    latencies: list[float] = field(repr=False)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which ``share`` of the requests were answered."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


class Web:
    """Workers of gunicorn, each behind a socket of its own, so that every one has as many clients."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads

    @contextlib.contextmanager
    def serving(self) -> Iterator[Web]:
        with redis() as cache:
            places = {
                self.socket(cached, number): cached for cached in (False, True) for number in range(WORKERS)
            }
            workers = [self._start(place, cache if cached else "") for place, cached in places.items()]
            try:
                self._await(list(places), workers)
                yield self
            finally:
                for worker in workers:
                    worker.send_signal(signal.SIGQUIT)  # at SIGTERM it waits for connections that are kept
                for worker in workers:
                    worker.wait(30)

    def socket(self, cached: bool, number: int) -> Path:
        return self.folder / f"{'cache' if cached else 'plain'}-{number}.sock"

    def _start(self, place: Path, cache: str) -> subprocess.Popen[bytes]:
        options = ["--workers", "1", "--worker-class", "gthread", "--threads", str(self.threads)]
        options += ["--keep-alive", "120", "--bind", f"unix:{place}", "--log-level", "error"]
        command = [sys.executable, "-m", "gunicorn", "benchmarks.wsgi", *options]
        home = place.with_suffix(".home")  # gunicorn puts a socket of its own there
        home.mkdir()
        return subprocess.Popen(command, cwd=TOP, env={**os.environ, "BENCH_CACHE": cache, "HOME": str(home)})

    def _await(self, places: Sequence[Path], workers: Sequence[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + 60
        while not all(place.exists() for place in places):
            if any(worker.poll() is not None for worker in workers) or time.monotonic() > deadline:
                raise RuntimeError("gunicorn did not start")
            time.sleep(0.05)


def one_round(web: Web, form: Form, clients: int, seconds: float, run: str) -> Round:
    """Let every client send its next request as soon as it has the answer to the last one."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    failures: list[BaseException] = []
    barrier = threading.Barrier(clients + 1)
    stop = threading.Event()

    def client(number: int) -> None:
        try:
            _loop(
                web.socket(form.cached, number % WORKERS), form, number, run, barrier, stop, latencies[number]
            )
        except BaseException as error:  # noqa: BLE001 (raised again below)
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(60)
    started = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join(60)
    if failures:
        raise failures[0]
    return Round(time.perf_counter() - started, [each for some in latencies for each in some])


def _loop(
    place: Path,
    form: Form,
    number: int,
    run: str,
    barrier: threading.Barrier,
    stop: threading.Event,
    latencies: list[float],
) -> None:
    message, own = wire(form, number), keys(form, run, number)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(60)
        connection.connect(str(place))
        for _ in range(3):  # connects to the database, and makes what is repeated
            _exchange(connection, message(next(own)))
        barrier.wait(60)
        while not stop.is_set():
            started = time.perf_counter()
            _exchange(connection, message(next(own)))
            latencies.append(time.perf_counter() - started)


def _exchange(connection: socket.socket, message: bytes) -> None:
    """Send a request and read its whole answer, which has to be 201."""
    connection.sendall(message)
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 201"):
        raise RuntimeError(f"unexpected answer: {data[:300]!r}")
    wanted = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(rest) < wanted:
        rest += _more(connection)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


Rounds = dict[str, list[Round]]


def compare(forms: Sequence[Form], clients: int, rounds: int, seconds: float) -> Rounds:
    """Give every form's rounds, the forms taking turns in each; the first round warms up and is dropped."""
    results: Rounds = {form.name: [] for form in forms}
    with (
        tempfile.TemporaryDirectory(prefix="idem-") as folder,
        Web(Path(folder), max(clients, 2)).serving() as web,
    ):
        for number in range(rounds + 1):
            for form in forms if number % 2 else reversed(forms):
                result = one_round(web, form, clients, seconds if number else 0.3, f"{clients}-{number}")
                if number:
                    results[form.name].append(result)
    return results


def ratio(results: Rounds, above: Form, below: Form) -> dict[str, Any]:
    """Give the median, lowest and highest of the ratios of throughput within the rounds."""
    pairs = zip(results[above.name], results[below.name], strict=True)
    ratios = sorted(one.per_second / other.per_second for one, other in pairs)
    return {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}
