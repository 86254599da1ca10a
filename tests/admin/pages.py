"""Pages of the admin as a test reads them."""

from __future__ import annotations

import html as entities
import re
from typing import Any

from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_idempotency.models import IdempotencyRecord

LIST = reverse("admin:django_idempotency_idempotencyrecord_changelist")
TABLE = IdempotencyRecord._meta.db_table
HTML = "<script>alert('x')</script>"


def page(client: Client, url: str = LIST, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return entities.unescape(" ".join(re.sub("<[^>]*>", " ", html).replace("\xa0", " ").split()))


def keys(client: Client, **query: str) -> list[str]:
    return re.findall(r'<code class="idem-key" title=".*?">(.*?)</code>', page(client, **query))


def url_of(record: IdempotencyRecord, view: str = "change", *more: str) -> str:
    return reverse(f"admin:django_idempotency_idempotencyrecord_{view}", args=[record.pk, *more])


def tiles(client: Client) -> dict[str, tuple[str, str]]:
    """Return what each tile shows, and where it leads."""
    found: dict[str, tuple[str, str]] = {}
    for query, tile in re.findall(r'<a class="idem-tile.*?" href="(.*?)">(.*?)</a>', page(client), re.DOTALL):
        label, value, _ = (text_of(span) for span in re.findall("<span.*?>(.*?)</span>", tile, re.DOTALL))
        found[label] = (value, entities.unescape(query))
    return found


def field(html: str, name: str) -> str:
    """Return the HTML of one field of a record's page."""
    found = re.search(rf'field-{name}">.*?<div class="readonly">(.*?)</div>\s*</div>', html, re.DOTALL)
    assert found, name
    return found[1]


def choose(client: Client, action: str, *chosen: IdempotencyRecord, **more: str) -> Any:
    """Choose an action in the list, as its button does, and return the page with the question."""
    data = {"action": action, "_selected_action": [record.pk for record in chosen], "index": "0", **more}
    return client.post(LIST, data, follow=True)


def act(client: Client, action: str, *chosen: IdempotencyRecord, **more: str) -> list[str]:
    """Answer the question of an action with yes, and return what is said then."""
    data = {"action": action, "_selected_action": [record.pk for record in chosen], "post": "yes", **more}
    response = client.post(LIST, data, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def history() -> list[tuple[int, str, str]]:
    entries = LogEntry.objects.order_by("pk")
    return [(entry.action_flag, entry.object_repr, entry.get_change_message()) for entry in entries]
