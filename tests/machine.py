"""What `dev.py` needs from this machine: commands with a time limit, Pythons, packages, servers.

Standard library only, for it runs before anything is installed. Installs go under `.dev/` and, as root only, through
apt-get.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DEV = TOP / ".dev"
#: What the nodes of a Galera cluster need beside MariaDB, unpacked and not installed: the packages start a service.
GALERA = DEV / "galera"
GALERA_PACKAGES = ("galera-4", "mariadb-server", "rsync", "libpopt0")
#: What takes apt-get: a program to look for, and the packages that bring it.
DEBIAN = {
    "mariadb": ("mariadbd", ("mariadb-server-core", "mariadb-client-core")),
    "pooler": ("pgbouncer", ("pgbouncer",)),
    "redis": ("redis-server", ("redis-server",)),
    "browser": ("chromium", ("chromium",)),
}
#: What some tests need beside a database; those that say nothing about a database run beside the first one.
BESIDE = {"postgres": "pooler", "sqlite": "redis", "mariadb": "galera"}
CALL_SECONDS = 780.0
TIMED_OUT = 124


class Unavailable(Exception):
    """Something that this machine would have to provide is not there; the message is the reason."""


def environment(interpreter: Path | None = None) -> dict[str, str]:
    """Give the environment for subprocesses: free of foreign settings, and with pyenv's Pythons on PATH."""
    foreign = ("DATABASE_", "DJANGO_", "COVERAGE_", "PYTEST_", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pythons = sorted(pyenv.glob("versions/3.*/bin"), key=_version, reverse=True)
    first = [interpreter.parent] if interpreter else []
    # Before PATH: pyenv's own shims stand there, and uv takes the first python3.13 for the only one, working or not.
    kept["PATH"] = os.pathsep.join([*map(str, first + pythons), kept.get("PATH", "")])
    kept["UV_PYTHON_DOWNLOADS"] = "never"
    return kept


def _version(folder: Path) -> list[int]:
    """Give the numbers in the name of a pyenv version, to sort by."""
    return [int(number) for number in re.findall(r"\d+", folder.parent.name)]


def run(command: Sequence[str], env: dict[str, str], seconds: float | None = CALL_SECONDS) -> int:
    """Run a command in the top folder without standard input; give its exit code, TIMED_OUT after `seconds`."""
    process = subprocess.Popen(command, cwd=TOP, env=env, stdin=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"{command[0]} was still running after {seconds:.0f} s", flush=True)
        return TIMED_OUT
    except KeyboardInterrupt:
        # The terminal has told the command too, and it takes its own servers down.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        raise
    finally:
        _end(process)


def run_side_by_side(
    commands: Sequence[tuple[Sequence[str], dict[str, str], Path]], lanes: int, most: float | None
) -> Iterator[tuple[int, int, float]]:
    """Run commands, each with its environment and a file for what it prints, ``lanes`` at a time.

    One that runs for more than ``most`` seconds is ended. Yields number, exit code and seconds of each as it ends.
    One thread starts and watches them all: a server takes the end of the thread that started it for the death of its
    parent.
    """
    waiting, running = list(enumerate(commands)), dict[int, tuple[subprocess.Popen[bytes], float]]()
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                number, (command, env, log) = waiting.pop(0)
                running[number] = (_started(command, env, log), time.monotonic())
            time.sleep(0.1)
            for number, (process, started) in list(running.items()):
                seconds = time.monotonic() - started
                if process.poll() is None and (most is None or seconds < most):
                    continue
                del running[number]
                code = TIMED_OUT if process.returncode is None else process.returncode
                _end(process)
                yield number, code, seconds
    finally:
        for process, _ in running.values():
            _end(process)


def _started(command: Sequence[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in the top folder, without standard input, that prints into a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command, cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that is still running."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(90)
    process.kill()


def uv() -> str:
    """Find uv, or have pip put it under `.dev/`."""
    own = DEV / "uv" / "bin" / "uv"
    found = shutil.which("uv") or (str(own) if own.exists() else None)
    if found:
        return found
    if importlib.util.find_spec("pip") is None:
        raise Unavailable("neither uv nor pip is here: install one of them")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--quiet", "--target", str(DEV / "uv"), "uv"]
    if run(pip, environment(), 300):
        raise Unavailable("pip could not install uv")
    return str(own)


def venv(name: str, python: str, *requirements: str) -> Path:
    """Give the interpreter of a virtual environment; its packages are installed anew when setup.cfg changed."""
    folder = DEV / "venvs" / name
    interpreter = folder / "bin" / "python"
    env = environment()
    create = ["venv", "--quiet", "--no-project", "--clear", "--python", python, str(folder)]
    if not interpreter.exists() and run([uv(), *create], env, 120):
        raise Unavailable(f"Python {python} is missing")
    wanted = b"\0".join([(TOP / "setup.cfg").read_bytes(), *(text.encode() for text in requirements)])
    stamp = folder / f"{hashlib.sha256(wanted).hexdigest()[:16]}.installed"
    install = ["pip", "install", "--quiet", "--python", str(interpreter), *requirements]
    if not stamp.exists() and run([uv(), *install], env, 600):
        raise Unavailable(f"could not install {' '.join(requirements)}")
    stamp.touch()
    return interpreter


def provide(name: str) -> None:
    """Install a server or the browser where that takes apt-get and root, or raise Unavailable."""
    if name in BESIDE:
        with contextlib.suppress(Unavailable):  # without it, only its own tests are skipped
            provide(BESIDE[name])
    if name == "galera":
        _unpack_galera()
    program, packages = DEBIAN.get(name, ("", ()))
    if not program or shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{program} is missing: apt-get install {' '.join(packages)}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if not _apt(install) and not (_apt(["apt-get", "update", "-qq"]) and _apt(install)):
        raise Unavailable(f"apt-get could not install {' '.join(packages)}")


def _unpack_galera() -> None:
    """Download Debian's packages and unpack them under `.dev/`, which needs no root and starts nothing."""
    if GALERA.exists():
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable(f"Galera is missing: its files come from the Debian packages {GALERA_PACKAGES}")
    part = GALERA.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    download = ["apt-get", "download", "-qq", *GALERA_PACKAGES]
    if not _apt(download, part) and not (_apt(["apt-get", "update", "-qq"]) and _apt(download, part)):
        raise Unavailable(f"apt-get could not download {' '.join(GALERA_PACKAGES)}")
    if not all(_apt(["dpkg-deb", "-x", str(file), str(part)]) for file in part.glob("*.deb")):
        raise Unavailable(f"the packages {' '.join(GALERA_PACKAGES)} could not be unpacked")
    part.rename(GALERA)


def _apt(command: Sequence[str], folder: Path | None = None) -> bool:
    """Run apt-get without a question or a word."""
    env = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
