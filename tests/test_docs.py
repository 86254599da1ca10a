"""The documents say what the code does, and what they tell to type works."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from django.contrib.admin import site
from django.core.management import call_command, load_command_class
from django.core.management.base import BaseCommand
from django.core.management.commands import check, migrate
from django.http import HttpResponse
from django.test import Client, override_settings

import dev
from django_idempotency import checks, exceptions, signals
from django_idempotency.conf import Defaults
from django_idempotency.core.operations import Claim
from django_idempotency.http import problem_of
from django_idempotency.management.commands import (
    forget_idempotency_records,
    idempotency_conformance,
    idempotency_stats,
)
from django_idempotency.management.commands.purge_idempotency_records import Command
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.rest_framework.hooks import IdempotencyHooks
from example_project.shop.models import Product

pytestmark = pytest.mark.once

TOP = Path(__file__).resolve().parent.parent
DOCS = sorted((TOP / "docs").rglob("*.md"))
PAGES = [TOP / "README.md", TOP / "CHANGELOG.md", TOP / "CONTRIBUTING.md", *DOCS]
README = (TOP / "README.md").read_text(encoding="utf-8")
REFERENCE = (TOP / "docs/reference.md").read_text(encoding="utf-8")
PURGE = "purge_idempotency_records"
FORGET = "forget_idempotency_records"
CONFORMANCE = "idempotency_conformance"
STATS = "idempotency_stats"


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def blocks(page: Path | str, kind: str) -> list[str]:
    """Return the fenced blocks of one kind."""
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def console() -> Iterator[tuple[list[str], str]]:
    """Yield each command of the README's console blocks, as words, and what it prints there."""
    for block in blocks(README, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = re.sub(r"\\\n\s*", "", part).partition("\n")
            yield shlex.split(command), printed


CONSOLE = list(console())


# The reference


def test_every_setting_is_described_with_its_default() -> None:
    described = {row[0]: row[2] for row in rows(REFERENCE, "Settings")}
    assert list(described) == list(Defaults.__annotations__)
    short = {name: ast.literal_eval(text) for name, text in described.items() if text != "below"}
    (listed,) = blocks(REFERENCE.partition("## Settings")[2], "python")
    below: dict[str, object] = {}
    exec(compile(listed, "reference.md", "exec"), {}, below)
    assert {**short, **below} == {name: getattr(Defaults, name) for name in described}


def test_names_on_the_mixin_are_all_described() -> None:
    settings = [row[1] for row in rows(REFERENCE, "Settings") if row[1]]
    hooks = [row[0] for row in rows(REFERENCE, "Hooks")]
    own = [name for name in vars(IdempotencyHooks) if not name.startswith("_")]
    described = {name.partition("(")[0] for name in settings + hooks}
    assert described == set(own)


def test_hooks_are_described_with_their_arguments() -> None:
    for signature in (row[0] for row in rows(REFERENCE, "Hooks")):
        name, _, arguments = signature.rstrip(")").partition("(")
        parameters = list(inspect.signature(getattr(IdempotencyMixin, name)).parameters.values())[1:]
        assert arguments == ", ".join(str(each).partition(":")[0] for each in parameters)


def test_every_error_is_described() -> None:
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    expected = []
    for kind in kinds:
        if kind is not exceptions.IdempotencyError:
            problem = problem_of(kind())
            hint = problem.headers.get("x-should-retry", "")
            assert problem.headers.get("stripe-should-retry", "") == hint
            expected.append(
                [kind.__name__, str(problem.status), kind.code, str(problem.retry_after or ""), hint]
            )
    assert rows(REFERENCE, "Errors") == expected


def test_every_error_that_clients_meet_is_in_the_readme() -> None:
    def told(row: list[str]) -> tuple[str, str, bool, str]:
        hint = re.search(r"hints `(\w+)", row[3])
        return row[1], row[2], "Retry-After" in row[3], hint[1] if hint else ""

    unreachable = {"outcome-unknown", "result-expired"}
    described = [row[1:] for row in rows(REFERENCE, "Errors") if row[2] not in unreachable]
    assert {told(row) for row in rows(README, "What clients get") if row[2]} == {
        (status, code, bool(retry_after), hint) for status, code, retry_after, hint in described
    }


def test_every_signal_is_described() -> None:
    sent = [name for name, value in vars(signals).items() if isinstance(value, signals.Signal)]
    assert [row[0] for row in rows(REFERENCE, "Signals")] == sent


def test_every_check_is_described() -> None:
    sources = "".join(file.read_text("utf-8") for file in (TOP / "django_idempotency").glob("*checks.py"))
    ids = re.findall(r"django_idempotency\.[EWI]\d{3}", sources)
    assert {row[0] for row in rows(REFERENCE, "Checks")} == set(ids)


@pytest.mark.parametrize("name", [PURGE, FORGET, CONFORMANCE, STATS])
def test_every_option_of_a_command_is_described(name: str) -> None:
    def options(command: BaseCommand) -> list[str]:
        parser = command.create_parser("manage.py", name)
        return [[action.dest, *action.option_strings][-1] for action in parser._actions]

    django = options(BaseCommand())
    own = [option for option in options(OWN_COMMANDS[name]()) if option not in django]
    assert [row[0].split()[0] for row in rows(REFERENCE, f"`{name}`")] == own


def test_every_field_of_the_record_is_described() -> None:
    section = REFERENCE.partition("## Record\n")[2].partition("\n## ")[0]
    fields = [field.name for field in IdempotencyRecord._meta.fields]
    assert re.findall(r"`(\w+)`", section)[1 : len(fields) + 1] == fields
    assert set(IdempotencyRecord.State.values) < set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize(("page", "heading"), [("security", "Threats"), ("replay-cache", "When Redis fails")])
def test_every_threat_and_fault_names_a_test_that_exists(page: str, heading: str) -> None:
    text = (TOP / f"docs/guide/{page}.md").read_text(encoding="utf-8")
    for _, _, test in rows(text, heading):
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (TOP / file).read_text(encoding="utf-8"), re.MULTILINE), test


# The public names


@pytest.mark.parametrize(
    "path",
    [
        "models.IdempotencyRecord",
        "rest_framework.IdempotencyMixin",
        "rest_framework.renderers.BrowsableAPIRenderer",
        "decorators.idempotent",
        "decorators.idempotency_exempt",
        "decorators.idempotent_function",
        "middleware.IdempotencyMiddleware",
        "contrib.ninja.idempotent",
        "execution.execute_once",
        "execution.aexecute_once",
        *(
            f"exceptions.{name}"
            for name in (
                "IdempotencyError",
                "KeyMissing",
                "KeyInvalid",
                "InProgress",
                "FingerprintMismatch",
                "StoreUnavailable",
                "OutcomeUnknown",
                "ResultExpired",
            )
        ),
        *(
            f"signals.{name}"
            for name in ("claimed", "completed", "released", "replayed", "rejected", "purged")
        ),
        *(f"core.operations.{name}" for name in ("Operation", "Claim", "Snapshot", "operation_id")),
        "core.keys.parse_key",
        "core.fingerprints.fingerprint",
        "core.fingerprints.canonical_json",
        "core.decisions.decide",
        "core.decisions.Decision",
        "claims.advisory.running",
        "claims.advisory.lock_number",
    ],
)
def test_public_name_is_there_and_its_module_in_the_reference(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(f"django_idempotency.{module}"), name)
    assert f"`django_idempotency.{module}`" in REFERENCE


MIXIN = """
    idempotency_required idempotency_methods idempotency_retention idempotency_ignore_fields idempotency_store_body
    idempotency_wait_seconds
    get_idempotency_key get_idempotency_scope get_idempotency_fingerprint should_store_response
    authorize_idempotent_replay
"""


def test_names_that_others_build_on() -> None:
    assert [name for name in MIXIN.split() if not hasattr(IdempotencyMixin, name)] == []
    for name in ("in_progress", "completed", "expired", "live"):
        assert callable(getattr(IdempotencyRecord.objects, name))
    assert set(Claim.__dataclass_fields__) == {"key", "record_id", "attempt"}
    assert callable(Claim.child_key)


def test_one_base_catches_every_error() -> None:
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    assert all(issubclass(kind, exceptions.IdempotencyError) for kind in kinds)


# What readers click, copy and type


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)", page.read_text(encoding="utf-8")):
        file, _, fragment = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), link


@pytest.mark.parametrize(
    ("page", "block"), [(page.stem, block) for page in PAGES for block in blocks(page, "python")]
)
def test_python_runs_and_its_settings_pass_the_checks(
    page: str, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(
        site._registry, IdempotencyRecord
    )  # as with ADMIN off; what a block registers goes again
    names: dict[str, object] = {"__name__": page}
    exec(compile(block, page, "exec"), names)
    if "IDEMPOTENCY" in names:
        with override_settings(IDEMPOTENCY=names["IDEMPOTENCY"]):
            found = [checks.check_names(None), checks.check_values(None), checks.check_hooks(None)]
        assert found == [[], [], []]


def test_every_fenced_block_is_of_a_kind_that_is_tested() -> None:
    kinds = {
        kind for page in PAGES for kind in re.findall(r"^```(\w*)$", page.read_text("utf-8"), re.MULTILINE)
    }
    tested = {"console", "cron", "html", "ini", "python", "sql", "yaml"}  # sql: tests/scaling
    assert kinds - {""} == tested
    known = {("python3", "dev.py"), ("python", "manage.py"), ("python", "-m"), ("curl", "-i")}
    assert {tuple(command[:2]) for command, _ in CONSOLE} == known


def test_commands_of_dev_py_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = {" ".join(command[1:]) for command, _ in CONSOLE if command[1] == "dev.py"}
    for page in PAGES:
        typed |= set(re.findall(r"`python3 (dev\.py[^`]*)`", page.read_text(encoding="utf-8")))
    assert {line.split()[1] for line in typed} == {"demo", "serve", "test", "bench", "prove", "lint"}
    for line in typed:
        monkeypatch.setattr(sys, "argv", line.split())
        _, rest = dev.parse()
        assert all((TOP / word).exists() for word in rest), line


def test_extra_that_the_readme_installs_exists() -> None:
    metadata = ConfigParser()
    metadata.read(TOP / "setup.cfg")
    ((command, _),) = [(command, text) for command, text in CONSOLE if command[:2] == ["python", "-m"]]
    assert command == ["python", "-m", "pip", "install", ".[drf]"]
    assert metadata.has_option("options.extras_require", "drf")


OWN_COMMANDS: dict[str, type[BaseCommand]] = {
    PURGE: Command,
    FORGET: forget_idempotency_records.Command,
    CONFORMANCE: idempotency_conformance.Command,
    STATS: idempotency_stats.Command,
    "migrate": migrate.Command,
    "check": check.Command,
}


def test_management_commands_are_understood() -> None:
    typed = set()
    for page in PAGES:
        typed |= set(re.findall(r"manage\.py ([a-z_]+(?: --?[\w-]+(?: [\w:]+)?)*)", page.read_text("utf-8")))
    assert {line.split()[0] for line in typed} == set(OWN_COMMANDS)
    for line in typed:
        name, *options = line.split()
        url = ["http://localhost/"] if name == CONFORMANCE else []
        OWN_COMMANDS[name]().create_parser("manage.py", name).parse_args([*url, *options])


@pytest.mark.django_db
@pytest.mark.parametrize("option", ["", "--dry-run", "--format json"])
def test_cron_line_of_the_readme_runs(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    (cron,) = blocks(README, "cron")
    assert len(cron.split("  ")[0].split()) == 5
    name, *options = cron.partition("manage.py ")[2].split()
    assert isinstance(load_command_class("django_idempotency", name), Command)
    call_command(name, *options, *option.split())
    printed = capsys.readouterr().out
    assert "0 expired records" in printed or json.loads(printed)["deleted"] == 0


# The recipes

OPERATIONS = (TOP / "docs/guide/operations.md").read_text(encoding="utf-8")


def is_purge(words: list[str]) -> bool:
    """Tell whether a command line purges, with options that the command knows."""
    at = words.index("manage.py") + 1
    Command().create_parser("manage.py", PURGE).parse_args(words[at + 1 :])
    return words[at] == PURGE


def test_cron_and_systemd_run_the_purge_every_five_minutes() -> None:
    (cron,) = blocks(OPERATIONS, "cron")
    (units,) = blocks(OPERATIONS, "ini")
    service, timer = (ConfigParser(delimiters="=") for _ in "ab")
    service.read_string(units.partition("# /etc/systemd/system/idempotency-purge.timer")[0])
    timer.read_string(units.partition("# /etc/systemd/system/idempotency-purge.timer")[2])
    assert is_purge(cron.split())
    assert is_purge(service["Service"]["ExecStart"].split())
    assert cron.startswith("*/5 * * * *  ")
    assert timer["Timer"]["OnCalendar"] == "*:0/5"
    assert service["Service"]["Type"] == "oneshot"


def test_cron_job_of_kubernetes_is_well_formed() -> None:
    """Held to the fields of batch/v1 that make it a CronJob that ends before the next one."""
    (text,) = blocks(OPERATIONS, "yaml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert re.fullmatch("[a-z0-9-]{1,52}", job["metadata"]["name"])
    spec, template = job["spec"], job["spec"]["jobTemplate"]["spec"]
    known = {"schedule", "concurrencyPolicy", "startingDeadlineSeconds", "jobTemplate"}
    assert set(spec) == known
    assert (len(spec["schedule"].split()), spec["concurrencyPolicy"]) == (5, "Forbid")
    assert set(template) == {"backoffLimit", "activeDeadlineSeconds", "template"}
    pod = template["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")
    (container,) = pod["containers"]
    assert set(container) == {"name", "image", "command", "resources"}
    assert is_purge(container["command"])
    limit = int(container["command"][container["command"].index("--max-seconds") + 1])
    assert limit < template["activeDeadlineSeconds"] < 300


# The requests of the README, and their answers


def send(command: list[str], product: int) -> HttpResponse:
    """Send what a curl command line would; `product` is the number that the shop's first product has here."""
    headers = dict(command[at + 1].split(": ", 1) for at, word in enumerate(command) if word == "-H")
    (body,) = (command[at + 1] for at, word in enumerate(command) if word == "-d")
    (url,) = (word for word in command if word.startswith("http"))
    media_type = headers.pop("Content-Type")
    data = json.dumps({**json.loads(body), "product": product})
    return Client(headers=headers).post(urlsplit(url).path, data, content_type=media_type)


def same(shown: dict[str, object], found: dict[str, object]) -> bool:
    """Compare two answers but for what differs from shop to shop."""
    own = {"id", "product", "created_at"}
    return list(shown) == list(found) and all(shown[name] == found[name] for name in shown.keys() - own)


@pytest.mark.django_db
def test_requests_of_the_readme_get_the_answers_that_it_shows() -> None:
    call_command("seed_shop", stdout=io.StringIO())
    product = Product.objects.get(name="Teapot").pk
    first, retry, other = [(command, printed) for command, printed in CONSOLE if command[0] == "curl"]
    bodies = []
    for command, printed in (first, retry, other):
        head, _, body = printed.partition("\n\n")
        status, *shown = head.splitlines()
        response = send(command, product)
        assert status.split()[:2] == ["HTTP/1.1", str(response.status_code)]
        for name, value in (line.split(": ", 1) for line in shown):
            assert response.headers[name] == value
        assert "Idempotent-Replayed" in head or "Idempotent-Replayed" not in response.headers
        assert same(json.loads(body), response.json())
        bodies.append(response.content)
    assert bodies[0] == bodies[1] != bodies[2]
    assert first[0] == retry[0]
