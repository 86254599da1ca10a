"""A hot key: 1,000 clients retry one key while its operation runs, and after it; what others feel meanwhile.

Run beside a private server: `python -m tests.servers postgres --durable -- python -m benchmarks.hot_key`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import django

from benchmarks.load import WORKERS, Web
from benchmarks.requests import FIRST, wire

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

CLIENTS = 1000
THREADS = 16


async def exchange(place: Path, message: bytes) -> int:
    """Send one request on a connection of its own and give the status of its answer."""
    reader, writer = await asyncio.open_unix_connection(str(place))
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1])


async def storm(web: Web, key: str) -> collections.Counter[int]:
    """Send one key from every client at once, and count the statuses."""
    places = [web.socket(False, number % WORKERS) for number in range(CLIENTS)]
    message = wire(FIRST, 0)(key)
    gate = asyncio.Semaphore(400)  # the sockets' backlog

    async def client(place: Path) -> int:
        async with gate:
            return await exchange(place, message)

    return collections.Counter(await asyncio.gather(*(client(place) for place in places)))


@contextlib.contextmanager
def others(web: Web, latencies: list[float]) -> Iterator[None]:
    """Let one client send first requests with keys of its own, and note how long each takes."""
    stop = threading.Event()

    def client() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            started = time.perf_counter()
            asyncio.run(exchange(web.socket(False, 0), wire(FIRST, 1)(f"other-{started}-{number}")))
            latencies.append((time.perf_counter() - started) * 1000)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.hot_key", description=__doc__)
    parser.add_argument("--storms", type=int, default=5)
    options = parser.parse_args()
    django.setup()
    from benchmarks.__main__ import prepare, table
    from example_project.shop.models import Order

    prepare()
    rows = []
    with tempfile.TemporaryDirectory(prefix="idem-") as folder, Web(Path(folder), THREADS).serving() as web:
        asyncio.run(storm(web, "warm-up"))
        before = Order.objects.count()
        quiet: list[float] = []
        with others(web, quiet):
            time.sleep(2)
        effects = Order.objects.count() - len(quiet) - before
        assert effects == 0, "the quiet client's orders are its own"
        for number in range(options.storms):
            for name in ("while running", "after it"):
                busy: list[float] = []
                before, started = Order.objects.count(), time.perf_counter()
                with others(web, busy):
                    statuses = asyncio.run(storm(web, f"hot-{number}"))
                seconds = time.perf_counter() - started
                effects = Order.objects.count() - before - len(busy)
                answers = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
                latency = f"{statistics.median(busy):.1f}" if busy else "none answered"
                rows.append([name, f"{seconds:.2f}", answers, str(effects), latency])
    print(f"others without a storm: median {statistics.median(quiet):.1f} ms")
    table(["1,000 retries", "seconds", "answers", "effects", "others, median ms"], iter(rows))


if __name__ == "__main__":
    main()
