"""Whatever is sent, the DRF door answers, and never with a 500: headers, addresses and bodies that nobody would send.

700 requests on each database by default, so 2,100 in a run of the matrix; ``FUZZ_EXAMPLES=100000`` is the full dose.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from django_idempotency.conf import FORM_FIELD
from django_idempotency.models import IdempotencyRecord
from tests.factories import ProductFactory, TokenFactory, WalletFactory
from tests.proofs import note

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "700"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(60 + EXAMPLES // 20),
    pytest.mark.processes,
]

NEW = "a key of its own"

# What a WSGI server hands on: bytes, decoded as latin-1.
octets = st.binary(max_size=300).map(lambda content: content.decode("latin-1"))
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
keys = st.one_of(
    st.just(NEW),
    st.just(NEW),
    st.just(NEW),
    st.sampled_from("abc"),
    octets,
    printable,
    printable.map(lambda text: f'"{text}"'),
    st.lists(printable | octets, max_size=5).map(",".join),
    st.builds(lambda text, count: text * count, printable, st.integers(1, 50)),
)

texts = st.text(max_size=50) | st.sampled_from(["\0", "\ud800", "\U0001f600", "a\r\n", "password"])
numbers = (
    st.integers() | st.floats() | st.sampled_from([10**400, -(2**63) - 1, 2**63, 1e999, float("nan"), -0.0])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)
orders = st.fixed_dictionaries(
    {},
    optional={
        name: values | st.just(1) for name in ("product", "quantity", "note", "amount", "title", "key")
    },
)
BROKEN = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 5000,
    "long number": b"1" * 10_000,
    "large exponent": b"1e999999999",
    "lone surrogate": b'"\\ud800"',
    "no UTF-8": b"\xff\xfe",
    "two values": b"{}x",
    "3 MB": b"x" * 3_000_000,
}
broken = st.sampled_from(sorted(BROKEN))
documents = (values | orders).map(lambda value: json.dumps(value).encode()) | broken


def multipart(names: list[str], files: list[tuple[str, bytes]], end: str) -> bytes:
    fields = [(f'form-data; name="{name}"', b"x") for name in names]
    fields += [(f'form-data; name="file"; filename="{name}"', content) for name, content in files]
    parts = [
        b"--b\r\nContent-Disposition: " + head.encode("utf-8", "replace") + b"\r\n\r\n" + content + b"\r\n"
        for head, content in fields
    ]
    return b"".join(parts) + f"--b{end}".encode()


uploads = st.builds(
    multipart,
    st.lists(texts | st.just(FORM_FIELD), max_size=3),
    st.lists(st.tuples(texts, st.binary(max_size=2000)), max_size=2),
    st.sampled_from(["--\r\n", "", "--", "x"]),
)
forms = st.lists(st.tuples(octets | st.just(FORM_FIELD), octets), max_size=5).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("latin-1")
)
media_types = st.sampled_from(
    [
        "application/json",
        "application/json; charset=utf-16",
        "application/json; charset=nothing",
        "application/vnd.shop+json",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-7",
        "multipart/form-data; boundary=b",
        "multipart/form-data; boundary=b; charset=nothing",
        "multipart/form-data",
        "text/plain",
        "",
    ]
)
json_doors = st.sampled_from(["/any/", "/any/", "/form/", "/probe/create/", "/api/orders/"])
doors = st.sampled_from(["/any/", "/form/", "/plain/", "/api/receipts/", "/api/wallet/"])


def wanted(**parts: Any) -> Any:
    common = {
        "method": st.sampled_from([*["POST"] * 9, "PUT"]),
        "query": st.just("") | octets,
        "key": keys,
        "accept": st.sampled_from([*["application/json"] * 7, "*/*", "text/html", "x/y"]),
    }
    return st.fixed_dictionaries({**common, **parts})


requests = st.one_of(
    wanted(path=json_doors, media_type=st.just("application/json"), body=documents),
    wanted(path=doors, media_type=st.just("multipart/form-data; boundary=b"), body=uploads),
    wanted(path=doors, media_type=st.just("application/x-www-form-urlencoded"), body=forms),
    wanted(
        path=doors | json_doors | octets.map(lambda text: f"/any/{text}"),
        media_type=media_types | octets,
        body=documents | uploads | forms | st.binary(max_size=5000),
    ),
)


def send(client: Client, token: str, request: dict[str, Any], *, keyed: bool = True) -> int:
    extra = {"HTTP_ACCEPT": request["accept"], "HTTP_AUTHORIZATION": f"Token {token}"}
    if keyed:
        extra["HTTP_IDEMPOTENCY_KEY"] = request["key"]
    address = {"PATH_INFO": request["path"], "QUERY_STRING": request["query"]}
    body = BROKEN.get(request["body"], request["body"])
    media_type = request["media_type"]
    method = "PATCH" if request["path"] == "/api/wallet/" else request["method"]
    response = client.generic(method, "/", body, content_type=media_type, **address, **extra)
    return response.status_code


def test_no_request_is_answered_with_a_500(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 500 that the same request gets without a key is another's: DRF does not catch a RecursionError of JSON."""
    ProductFactory(stock=1_000_000)
    token = TokenFactory()
    WalletFactory(user=token.user)
    client = Client(raise_request_exception=False)
    caplog.set_level(logging.CRITICAL, logger="django")
    statuses: Counter[int] = Counter()
    others: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def never_a_500(request: dict[str, Any]) -> None:
        if request["key"] == NEW:
            request = {**request, "key": f"new-{sum(statuses.values())}"}
        status = send(client, token.key, request)
        statuses[status] += 1
        if status >= 500:
            assert send(client, token.key, request, keyed=False) == status
            others[str(request["body"])[:40]] += 1
        else:
            assert send(client, token.key, request) < 500

    never_a_500()
    with capsys.disabled():
        print(
            f"\n{EXAMPLES} requests, each sent twice: {dict(statuses.most_common())}; not ours: {dict(others)}"
        )
    assert set(others) <= {"deep list", "deep object"}
    assert IdempotencyRecord.objects.completed().count() > EXAMPLES // 10
    answers = {str(status): count for status, count in statuses.most_common()}
    note("fuzz", requests=EXAMPLES, answers=answers, others=sum(others.values()), ours=0)
