"""The catalogues: every text is translated, placeholders agree, and what Django reads is what translators wrote."""

from __future__ import annotations

import ast
import gettext
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polib
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation
from django.utils.translation import gettext as translated
from django.utils.translation.template import templatize

from tests.admin.pages import LIST, choose, page, text_of, tiles, url_of
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).resolve().parent.parent / "django_idempotency"
LOCALE = PACKAGE / "locale"
LANGUAGES = ["de", "es", "fr", "pt_BR", "zh_Hans"]
MARKS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}


def catalogue(language: str) -> polib.POFile:
    return polib.pofile(str(LOCALE / language / "LC_MESSAGES/django.po"))


def marked(source: str) -> Iterator[str]:
    """Yield the texts that a module marks: the first argument of each call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MARKS and node.args:
            (text,) = (node.args[0].value,) if isinstance(node.args[0], ast.Constant) else ("",)
            yield str(text)


def marked_in_template(source: str) -> Iterator[str]:
    """Yield the texts that a template marks, out of what Django makes of it for xgettext."""
    for call in re.findall(r"\b(?:_|n?gettext)\(.*?\) ", templatize(source) + " "):
        yield from marked(call.strip())


def texts() -> set[str]:
    found = {text for path in PACKAGE.rglob("*.py") for text in marked(path.read_text("utf-8"))}
    for path in (PACKAGE / "templates").rglob("*.html"):
        found |= set(marked_in_template(path.read_text("utf-8")))
    return found - {""}


def placeholders(text: str) -> Counter[str]:
    return Counter(re.findall(r"%(?:\(\w+\))?[sd]", text))


def test_there_is_a_catalogue_for_each_language() -> None:
    assert sorted(path.name for path in LOCALE.iterdir()) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_in_the_catalogue_and_no_other(language: str) -> None:
    found = texts()
    assert len(found) > 150
    assert {entry.msgid for entry in catalogue(language)} == found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_with_its_placeholders(language: str) -> None:
    for entry in catalogue(language):
        assert entry.translated(), entry.msgid
        assert not entry.fuzzy, entry.msgid
        if entry.msgid_plural:
            *first, last = [entry.msgstr_plural[at] for at in sorted(entry.msgstr_plural)]
            assert placeholders(last) == placeholders(entry.msgid_plural), last
            assert all(placeholders(text) == placeholders(entry.msgid) for text in first), first
        else:
            assert placeholders(entry.msgstr) == placeholders(entry.msgid), entry.msgstr
        assert entry.msgstr.strip() == entry.msgstr


@pytest.mark.parametrize("language", LANGUAGES)
def test_compiled_catalogue_is_the_written_one(language: str) -> None:
    with (LOCALE / language / "LC_MESSAGES/django.mo").open("rb") as file:
        compiled: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    written: dict[Any, str] = {}
    for entry in catalogue(language):
        plurals = {(entry.msgid, at): text for at, text in entry.msgstr_plural.items()}
        written |= plurals or {entry.msgid: entry.msgstr}
    assert {name: text for name, text in compiled.items() if name} == written


@pytest.mark.parametrize("language", LANGUAGES)
def test_django_knows_the_language_by_this_name(language: str) -> None:
    assert translation.to_language(language) in dict(settings.LANGUAGES)
    with translation.override(translation.to_language(language)):
        assert translated("awaiting the purge") != "awaiting the purge"


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_of_the_admin_speak_the_language(client: Client, language: str) -> None:
    client.force_login(User.objects.create_superuser("admin"))
    record = IdempotencyRecordFactory(completed=True, expired=True, attempt=3, replays=2)
    told = {entry.msgid: entry.msgstr for entry in catalogue(language)}
    with translation.override(translation.to_language(language)):
        assert {told[name] for name in ("Live", "Expired", "Replayed", "Kept on disk")} <= set(tiles(client))
        assert told["What would a retry get now?"] in text_of(page(client, url_of(record)))
        assert told["Export metadata"] in choose(client, "export_metadata", record).content.decode()
        for text in ("Expiry at a glance", "The purge does not keep up.", "Claimed and replayed per hour"):
            assert told[text] in page(client, LIST)
