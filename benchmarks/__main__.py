"""Compare the same view unprotected, protected and replayed; print tables in Markdown.

Run beside a private server: `python3 dev.py bench`, or `python -m tests.servers postgres --durable -- python -m
benchmarks`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")


def prepare() -> None:
    """Make the tables, a caller with a token, and a product for each client."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from rest_framework.authtoken.models import Token

    from benchmarks.requests import PRODUCTS, TOKEN
    from example_project.shop.models import Product

    call_command("migrate", verbosity=0)
    Token.objects.create(key=TOKEN, user=User.objects.create_user("benchmark"))
    Product.objects.bulk_create(
        Product(name=f"product {n}", price="9.99", stock=10**9) for n in range(PRODUCTS)
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # whole pages would hide what a request writes
            cursor.execute("ALTER SYSTEM SET full_page_writes = off")
            cursor.execute("ALTER SYSTEM SET autovacuum = off")
            cursor.execute("SELECT pg_reload_conf()")


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print a table."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def show_exact(samples: int) -> None:
    """Print what one request costs, counted."""
    from benchmarks.exact import count
    from benchmarks.requests import DATABASE_FORMS

    found = count(DATABASE_FORMS, samples)
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    titles = {"log": "bytes of log", "cpu": "µs of CPU in Python", "versions": "row versions"}
    rows = ([form, *(f"{figures[name]:.0f}" for name in names)] for form, figures in found.items())
    table(["one request", *(titles.get(name, name) for name in names)], rows)


def show_load(clients: int, rounds: int, seconds: float) -> None:
    """Print throughput and latency of every form, and the ratios that matter."""
    from benchmarks import requests as r
    from benchmarks.load import compare, ratio

    results = compare(r.FORMS, clients, rounds, seconds)
    rows = (
        [name, *(f"{statistics.median(figures):,.{digits}f}" for figures, digits in each)]
        for name, each in (
            (
                name,
                (
                    ([one.per_second for one in done], 0),
                    ([one.percentile(0.5) for one in done], 2),
                    ([one.percentile(0.99) for one in done], 1),
                ),
            )
            for name, done in results.items()
        )
    )
    table([f"{clients} clients", "requests/s", "median ms", "p99 ms"], rows)
    pairs = [
        (r.FIRST, r.UNPROTECTED),
        (r.FIRST, r.FLOOR),
        (r.FLOOR, r.UNPROTECTED),
        (r.CACHED_FIRST, r.FIRST),
        (r.REPLAY, r.NOTHING),
        (r.REPLAY, r.UNPROTECTED),
        (r.CACHED_REPLAY, r.NOTHING),
        (r.CACHED_REPLAY, r.UNPROTECTED),
    ]
    ratios = ((f"{above.name} / {below.name}", ratio(results, above, below)) for above, below in pairs)
    lines = (
        [name, f"{each['median']:.2f}", f"{each['low']:.2f}–{each['high']:.2f}"] for name, each in ratios
    )
    table(["throughput, ratio within a round", "median", "lowest–highest"], lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one form in one round")
    parser.add_argument("--samples", type=int, default=400, help="requests to count with")
    options = parser.parse_args()
    django.setup()
    prepare()
    engine = os.environ.get("DATABASE_ENGINE", "sqlite")
    versions = f"Python {platform.python_version()}, Django {django.get_version()}, {os.cpu_count()} cores"
    print(f"{engine}: {versions}; {options.rounds} rounds of {options.seconds:g} s")
    with contextlib.suppress(KeyboardInterrupt):
        show_exact(options.samples)
        for clients in options.clients:
            show_load(clients, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
