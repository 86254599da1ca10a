"""The settings that docs/guide/deployment.md recommends, as its readers copy them."""

from __future__ import annotations

import re
from typing import Any

from tests.machine import TOP

PAGE = (TOP / "docs" / "guide" / "deployment.md").read_text(encoding="utf-8")


def block(heading: str, kind: str = "python") -> str:
    """Return the fenced block of this kind under a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    (found,) = re.findall(
        rf"```{kind}\n(.*?)```", re.split(r"^#+ ", section, flags=re.MULTILINE)[0], re.DOTALL
    )
    return str(found)


def database(heading: str) -> dict[str, Any]:
    """Return the entry of DATABASES that stands under a heading."""
    names: dict[str, Any] = {}
    exec(block(heading), names)
    entry: dict[str, Any] = names["DATABASES"]["default"]
    return entry
