"""Reads a pickle as data: nothing in it is imported, called, or given an attribute.

Python's own unpickler calls what a file names. This reads the same opcodes, but what a file would
call becomes a ``Call``, a record of names and arguments, which the reader of a format then
interprets. Only names of a closed table may occur at all. Memory is bounded by the size of the
input. Knows the standard library only.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dgray.errors import PickleError

LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
IGNORED = frozenset({"PROTO", "FRAME"})


@dataclass(frozen=True)
class Global:
    """The name of something importable. It is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """What a pickle would have called, with what.

    Attributes:
        function: the name.
        arguments: positional.
        state: what the result would be given to set itself up.
        items: what the result would be filled with by key.
    """

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[str | int, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Persistent:
    """A reference to something outside of the pickle."""

    identity: Any


def read_inert(file: BinaryIO, *, allowed: Collection[str], with_persistent: bool = False) -> Any:
    """The next pickle in ``file``, as plain values, ``Call``, ``Global`` and ``Persistent``.

    Args:
        file: read up to the end of the pickle; one that gives no more memory than it has bytes
            (bytes in memory, a memory map), however many are asked for.
        allowed: dotted names that may occur.
        with_persistent: references to the outside may occur.

    Raises:
        PickleError: damaged; an opcode that no plain data needs; a name that is not allowed (all
            of them are told).
    """
    machine = _Machine(allowed, with_persistent)
    try:
        machine.run(file)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        if not machine.refused:
            raise PickleError(f"the pickle is damaged or cut short: {error}") from error
    if machine.refused:
        raise PickleError(
            "only names that such a file needs may occur in it, but it refers to "
            f"{', '.join(sorted(machine.refused))}; nothing was executed. If you trust the "
            "source, have the names reviewed"
        )
    if len(machine.stack) != 1 or machine.marked:
        raise PickleError("a pickle must leave exactly one value")
    return machine.stack[0]


class _Machine:
    """The stack of pickle's virtual machine, without its powers."""

    def __init__(self, allowed: Collection[str], with_persistent: bool) -> None:
        self.allowed, self.with_persistent = allowed, with_persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.refused: set[str] = set()
        self._actions: dict[str, Callable[[], None]] = {
            "MARK": self._mark,
            "POP": self._drop,
            "POP_MARK": self._drop_mark,
            "DUP": lambda: self.stack.append(self.stack[-1]),
            "TUPLE": lambda: self._collect(tuple),
            "LIST": lambda: self._collect(list),
            "DICT": self._dict,
            "FROZENSET": lambda: self._collect(_frozen),
            "APPEND": lambda: self._append([self.stack.pop()]),
            "APPENDS": lambda: self._append(self._to_mark()),
            "SETITEM": self._set_item,
            "SETITEMS": lambda: self._set_items(self._to_mark()),
            "ADDITEMS": self._add_items,
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "BUILD": self._build,
            "BINPERSID": self._persistent,
        }

    def run(self, file: BinaryIO) -> None:
        """Until the end of the pickle."""
        for opcode, argument, _ in pickletools.genops(file):
            self._step(opcode.name, argument)

    def _step(self, name: str, argument: Any) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            size = TUPLES[name]
            if len(self.stack) < size:
                raise ValueError("the stack is too short for a tuple")
            self.stack[-size:] = [tuple(self.stack[-size:])]
        elif name in PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "INST"):
            self._global(*argument.split(" ", 1))
        elif name in self._actions:
            self._actions[name]()
        elif name not in IGNORED and name != "STOP":
            raise ValueError(f"opcode {name} is not plain data")

    def _mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _to_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marked.pop()
        return values

    def _collect(self, kind: Callable[[list[Any]], object]) -> None:
        values = self._to_mark()
        self.stack.append(kind(values))

    def _drop(self) -> None:
        self.stack.pop()

    def _drop_mark(self) -> None:
        self._to_mark()

    def _append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("only a list can be appended to")
        self.stack[-1].extend(values)

    def _dict(self) -> None:
        values = self._to_mark()
        self.stack.append({})
        self._set_items(values)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target = target.items
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError("only a dictionary can be given items")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def _add_items(self) -> None:
        values = self._to_mark()
        if not isinstance(self.stack[-1], set):
            raise TypeError("only a set can be added to")
        self.stack[-1].update(map(_key, values))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("the name of a global must be text")
        self._global(module, name)

    def _global(self, module: str, name: str) -> None:
        what = Global(module, name)
        if str(what) not in self.allowed:
            self.refused.add(str(what)[:200])
        self.stack.append(what)

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("only a global can be called")
        self.stack.append(Call(function, arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Call):
            raise TypeError("only what was called can be given a state")
        self.stack[-1].state = state

    def _persistent(self) -> None:
        if not self.with_persistent:
            raise ValueError("a reference to something outside of the pickle")
        self.stack.append(Persistent(self.stack.pop()))


def _frozen(values: list[Any]) -> frozenset[str | int]:
    return frozenset(map(_key, values))


def _key(value: Any) -> str | int:
    if not isinstance(value, (str, int)):
        raise TypeError(f"keys must be text or whole numbers, not {type(value).__name__}")
    return value
