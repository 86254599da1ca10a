"""How the commands tell counts."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """Return "1 record" or "2 records"; ``many`` is for a word that takes more than an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
