"""Callables inside callables: what a decorator holds, and a copy of its wrapper that holds something else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial, update_wrapper
from itertools import islice
from types import CellType, FunctionType, ModuleType
from typing import Any

Pairs = dict[tuple[int, int], tuple[Any, Any]]

_MANY = 300
_LEAVES = (type(None), bool, int, float, str, bytes, ModuleType)
_HOLDING = ("__wrapped__", "__self__", "func", "args", "keywords", "__defaults__", "__kwdefaults__")


def within(callback: Any) -> Iterator[Any]:
    """Yield a callback and the callables in it: wrapped, partial, bound, in closures, attributes and containers."""
    yield from filter(callable, _reached(callback))


def only_way(callback: Any) -> Iterator[Any]:
    """Yield a callback and what it calls, as long as it holds one callable and so can call no other."""
    for _ in range(_MANY):
        yield callback
        held = {id(each): each for each in held_by(callback) if callable(each)}
        if len(held) != 1:
            return
        callback = held.popitem()[1]


def _reached(thing: Any) -> list[Any]:
    """Return what can be reached from ``thing``, nearest first and no more than _MANY."""
    seen: dict[int, Any] = {}
    waiting = deque([thing])
    while waiting and len(seen) < _MANY:
        each = waiting.popleft()
        if id(each) not in seen and not isinstance(each, _LEAVES):
            seen[id(each)] = each
            waiting.extend(islice(held_by(each), _MANY))
    return [*seen.values()]


def held_by(thing: Any) -> Iterator[Any]:
    """Yield what a callable, a container or an object holds itself."""
    if isinstance(thing, Mapping):
        yield from [*thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from [*thing]
    elif not isinstance(thing, type):
        if callable(thing):
            yield from (getattr(thing, name, None) for name in _HOLDING)
            yield from variables(thing).values()
        yield from _attributes(thing)


def _attributes(thing: Any) -> Iterator[Any]:
    yield from [*getattr(thing, "__dict__", {}).values()]
    for cls in type(thing).__mro__:
        names = vars(cls).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            yield getattr(thing, name, None)


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
    return any(each is view for each in _reached(thing))


def alike(one: Any, other: Any, seen: Pairs | None = None) -> bool:
    """Tell whether two callables do the same: by code, by what their closures hold, and so on.

    More than _MANY things to compare are taken for different.
    """
    seen = {} if seen is None else seen
    pair = id(one), id(other)
    if one is other or pair in seen:
        return True
    if type(one) is not type(other) or len(seen) >= _MANY:
        return False
    seen[pair] = one, other  # kept, or their ids would be given to others
    if isinstance(one, FunctionType):
        return one.__code__ is other.__code__ and _all_alike(_bound(one), _bound(other), seen)
    try:
        return bool(one == other) or _all_alike([*held_by(one)], [*held_by(other)], seen)
    except Exception:  # noqa: BLE001 (somebody's own __eq__)
        return False


def _all_alike(ours: list[Any], others: list[Any], seen: Pairs) -> bool:
    return 0 < len(ours) == len(others) and all(map(partial(alike, seen=seen), ours, others))


def _bound(function: Any) -> list[Any]:
    """Return what a function uses beside its arguments; its attributes are only what others read."""
    free = variables(function)
    return [[*free], *free.values(), function.__defaults__, function.__kwdefaults__]


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False
