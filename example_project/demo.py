"""Play the shop's story on a real server: ``python -m example_project.demo``.

A temporary SQLite file, several gunicorn workers on a free loopback port, and a client from the standard
library that retries, races, cheats and loses its connection. What happened is counted in the database, by SQL
of its own; the exit status is 1 if anything is wrong.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from example_project.stage import BOLD, DIM, GREEN, RED, WORKERS, Answer, Demo, gunicorn, manage, say

CROWD = 32


def first_request_and_retry(demo: Demo) -> None:
    """A retry gets the first answer."""
    demo.step("Alice orders, does not hear the answer, and sends the request again")
    first = demo.order("first", "order-1")
    retry = demo.order("first", "order-1")
    demo.expect("created, and no extra header", (201, False), (first.status, first.replayed))
    demo.expect("the retry: same status, same bytes", (first.status, first.body), (retry.status, retry.body))
    demo.expect("the retry says that it is a replay", True, retry.replayed)


def crowd(demo: Demo) -> None:
    """However many send it at once, it happens once."""
    demo.step(f"{CROWD} clients send the same request at the same moment to {WORKERS} workers")
    barrier = threading.Barrier(CROWD)

    def send(_: int) -> Answer:
        barrier.wait()
        return demo.request("POST", "/api/orders/", {"product": 1, "note": "crowd"}, "order-2")

    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(send, range(CROWD)))
    kinds = Counter(f"{answer.status}{' replayed' if answer.replayed else ''}" for answer in answers)
    say(f"      ->  {', '.join(f'{count} x {kind}' for kind, count in kinds.most_common())}")
    demo.expect("one of them is the first", 1, kinds["201"])
    later = kinds["201 replayed"] + kinds["409"]
    demo.expect("the others are replays (201) or told to wait (409)", CROWD - 1, later)


def other_body(demo: Demo) -> None:
    """A key stands for one request."""
    demo.step("The same key with another body")
    answer = demo.order("something else", "order-1")
    demo.expect("422", 422, answer.status)


def other_user(demo: Demo) -> None:
    """Callers never meet, whatever their keys are."""
    demo.step("Bob happens to use Alice's key")
    answer = demo.order("bob's own", "order-1", user="bob")
    demo.expect("Bob gets an order of his own", (201, False), (answer.status, answer.replayed))


def kills(demo: Demo) -> None:
    """A worker dies at the three moments that matter, and the retry does not wait for anybody."""
    for fault, moment, replayed in [
        ("kill-after-write", "after the view has written", False),
        ("kill-before-commit", "between the finished record and COMMIT", False),
        ("kill-after-commit", "after COMMIT, before the answer is sent", True),
    ]:
        demo.step(f"The worker is killed with SIGKILL {moment}")
        lost = demo.order(fault, fault, fault=fault)
        retry = demo.order(fault, fault)
        done = "answered from the record" if replayed else "carried out"
        found = (retry.status, retry.replayed)
        demo.expect("no answer came", 0, lost.status)
        demo.expect(f"the retry is {done}, after {retry.milliseconds:.0f} ms", (201, replayed), found)


def deposit(demo: Demo) -> None:
    """Adding to a number is what hurts most when it is repeated."""
    demo.step("Alice adds 5.00 to her wallet, and retries")
    first, retry = [demo.send("PATCH", "/api/wallet/", {"amount": "5.00"}, "deposit-1") for _ in range(2)]
    balances = [json.loads(answer.body)["balance"] for answer in (first, retry)]
    demo.expect("both answers show 105.00", ["105.00", "105.00"], balances)


def malformed_key(demo: Demo) -> None:
    """A malformed key is refused before anything is looked up."""
    demo.step("A key that is none")
    demo.expect("400", 400, demo.order("malformed", "two words").status)


def purge(demo: Demo) -> None:
    """Records end when their retention does."""
    demo.step("A day later, the records are purged")
    demo.sql("UPDATE django_idempotency_idempotencyrecord SET expires_at = datetime('now', '-1 hour')")
    before = demo.sql("SELECT COUNT(*) FROM django_idempotency_idempotencyrecord")
    demo.manage("purge_idempotency_records", "--dry-run")
    after = demo.sql("SELECT COUNT(*) FROM django_idempotency_idempotencyrecord")
    demo.expect(f"a dry run leaves all {before} records alone", before, after)
    demo.manage("purge_idempotency_records")


STORY: list[Callable[[Demo], None]] = [
    first_request_and_retry,
    crowd,
    other_body,
    other_user,
    kills,
    deposit,
    malformed_key,
    purge,
]

ORDERS = "SELECT COUNT(*) FROM shop_order WHERE note = "
EFFECTS = [
    ("orders of Alice, sent twice", 1, f"{ORDERS} 'first'"),
    (f"orders sent {CROWD} times at once", 1, f"{ORDERS} 'crowd'"),
    ("orders with the key of another", 0, f"{ORDERS} 'something else'"),
    ("orders of Bob, with Alice's key", 1, f"{ORDERS} 'bob''s own'"),
    ("orders, killed after the write", 1, f"{ORDERS} 'kill-after-write'"),
    ("orders, killed before COMMIT", 1, f"{ORDERS} 'kill-before-commit'"),
    ("orders, killed after COMMIT", 1, f"{ORDERS} 'kill-after-commit'"),
    ("orders with a malformed key", 0, f"{ORDERS} 'malformed'"),
    ("orders in all", 6, "SELECT COUNT(*) FROM shop_order"),
    ("teapots taken off the shelf", 6, "SELECT 1000 - stock FROM shop_product WHERE id = 1"),
    ("Alice's balance: 100 and 5, once", 105, "SELECT balance FROM shop_wallet WHERE user_id = 1"),
    ("records after the purge", 0, "SELECT COUNT(*) FROM django_idempotency_idempotencyrecord"),
]


def count_effects(demo: Demo) -> None:
    """Show what is in the database beside what should be."""
    say("\nWhat is in the database", BOLD)
    say(f"   {'effect':36} expected   found", DIM)
    for what, expected, statement in EFFECTS:
        found = demo.sql(statement)
        right = expected == found
        demo.wrong += not right
        say(f"   {what:36} {expected:8} {found:7}   {'ok' if right else 'WRONG'}", GREEN if right else RED)


def play(folder: Path) -> int:
    """Prepare the shop in a folder, open it, play the story, and return how many things were wrong."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DATABASE_ENGINE": "sqlite",
        "DATABASE_NAME": str(folder / "shop.sqlite3"),
        "SHOP_FAULTS": "1",
    }
    manage(environment, "migrate", "--verbosity", "0")
    manage(environment, "seed_shop")
    with gunicorn(environment, folder / "gunicorn.log") as port:
        demo = Demo(port, environment)
        say(f"The shop is open at http://127.0.0.1:{port}/api/, {WORKERS} workers, one SQLite file", DIM)
        for chapter in STORY:
            chapter(demo)
        count_effects(demo)
    return demo.wrong


def main() -> int:
    """Play the story in a temporary folder and return the exit status."""
    # Otherwise SIGTERM would end this process without the `finally` that ends the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        wrong = play(Path(folder))
    verdict = f"{wrong} WRONG" if wrong else "All as promised"
    say(f"\n{verdict}, in {time.perf_counter() - start:.1f} s.", RED if wrong else GREEN)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
