"""Callables inside callables: what a decorator holds, and a copy of its wrapper that holds something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import update_wrapper
from types import CellType, FunctionType
from typing import Any

_MANY = 100


def within(callback: Any) -> Iterator[Any]:
    """Yield a callback and the callables that it holds: wrapped, partial, bound, in closures or as attributes."""
    seen: dict[int, Any] = {}
    waiting = [callback]
    while waiting and len(seen) < _MANY:
        view = waiting.pop(0)
        if id(view) not in seen and callable(view):
            seen[id(view)] = view
            yield view
            waiting += held_by(view)


def held_by(view: Any) -> Iterator[Any]:
    """Yield what a callable holds itself."""
    for name in ("__wrapped__", "__self__", "func"):
        yield getattr(view, name, None)
    yield from variables(view).values()
    if not isinstance(view, type):
        yield from getattr(view, "__dict__", {}).values()


def variables(function: Any) -> dict[str, Any]:
    """Return the free variables of a closure by name, one that is bound later left out."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = zip(names, getattr(function, "__closure__", None) or (), strict=False)
    return {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def copied(function: FunctionType, closure: tuple[CellType, ...] | None = None) -> FunctionType:
    """Return a function like ``function``, with attributes and perhaps a closure of its own."""
    code, names = function.__code__, function.__globals__
    copy = FunctionType(
        code, names, function.__name__, function.__defaults__, closure or function.__closure__
    )
    update_wrapper(copy, function)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.pop("__wrapped__")
    copy.__dict__.update(function.__dict__)
    return copy


def rewrapped(wrapper: Any, view: Any, other: Any) -> Callable[..., Any] | None:
    """Return a copy of ``wrapper`` that calls ``other`` where it called ``view``, or None where that is not sure.

    Sure is a function that holds ``view`` in one cell of its closure and has no other way to it.
    """
    ways = [each for each in variables(wrapper).values() if _leads_to(view, each)]
    if not isinstance(wrapper, FunctionType) or len(ways) != 1 or ways[0] is not view:
        return None
    cells = (
        CellType(other) if _is_filled(cell) and cell.cell_contents is view else cell
        for cell in wrapper.__closure__ or ()
    )
    copy = copied(wrapper, tuple(cells))
    copy.__wrapped__ = other  # type: ignore[attr-defined]
    return copy


def _leads_to(view: Any, thing: Any) -> bool:
    return any(each is view for each in within(thing))


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False
