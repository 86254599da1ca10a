"""The wheel holds the app and nothing else, and the top of the repository stays short."""

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PACKAGE = "django_idempotency"
MOST_ENTRIES = 16

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from a copy of the tree, with the setuptools that is installed here: no network."""
    folder = tmp_path_factory.mktemp("packaging")
    unwanted = shutil.ignore_patterns(".git", ".dev", "*.egg-info", "__pycache__", "db.sqlite3*")
    shutil.copytree(TOP, folder / "source", ignore=unwanted)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(folder / "source")], check=True, timeout=100)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Read the wheel's METADATA."""
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_package_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE}


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    files = (path for path in (TOP / PACKAGE).rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {path.relative_to(TOP).as_posix() for path in files} <= set(wheel.namelist())


def test_the_wheel_is_typed(wheel: zipfile.ZipFile) -> None:
    assert f"{PACKAGE}/py.typed" in wheel.namelist()


def test_django_is_the_only_requirement(metadata: Message) -> None:
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert base == ["Django>=5.2"]


def test_the_version_is_the_package_s_own(metadata: Message) -> None:
    import django_idempotency

    assert metadata["Version"] == django_idempotency.__version__


def test_the_top_of_the_repository_stays_short() -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=TOP, capture_output=True, text=True, check=True, timeout=30).stdout
    entries = {file.split("/")[0] for file in files.splitlines()}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)
