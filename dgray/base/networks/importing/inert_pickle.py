"""Reader of pickles as data: nothing in a file is imported, called, or given an attribute.

Python's unpickler calls the functions that a file names. This reader interprets the same opcodes,
but a call becomes a ``Call``, a record of its name and arguments, for the reader of a format to
interpret. Only names of a closed table are accepted. Memory is bounded by the size of the input
and time by the number of opcodes, which a subclass of ``pickle.Unpickler`` cannot ensure. There,
ten bytes (an index of its memo) take 2 GiB, a hundred bytes (a key of nested tuples) exponential
time, and 4 MB minutes (whole numbers of the same hash as keys, or a long name that is repeated).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dgray.errors import PickleError

MAX_OPCODES = 400_000  # half a second; the largest network of EDM has 50,000
MAX_KEY = 1000  # characters of a key
MAX_KEY_NUMBER = 2**31  # below it, whole numbers of few keys have the same hash
MAX_INDEX = 2**32  # of the memo
MAX_BITS = 128  # of a whole number
MAX_GLOBAL = 200  # characters of a name
MAX_REFUSED = 20  # names that an error lists

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
    """Name of an importable object, which is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """Record of a call that a pickle requests.

    Attributes:
        function: name of the function.
        arguments: positional arguments.
        state: argument of ``__setstate__`` of the result.
        items: items to be set on the result.
    """

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[str | int, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Persistent:
    """Reference to an object outside the pickle."""

    identity: Any


def read_inert(
    file: BinaryIO,
    *,
    allowed: Collection[str],
    with_persistent: bool = False,
    max_opcodes: int = MAX_OPCODES,
) -> Any:
    """Read the next pickle as plain values, ``Call``, ``Global`` and ``Persistent``.

    Args:
        file: bytes in memory or a memory map, so that a read returns at most the bytes that exist;
            read up to the end of the pickle.
        allowed: dotted names that may occur.
        with_persistent: whether references to the outside may occur.
        max_opcodes: number of opcodes after which the pickle is refused.

    Raises:
        PickleError: the pickle is damaged, or has more opcodes or others than plain data needs,
            or names that are not allowed (the message lists the first ones).
    """
    machine = _Machine(allowed, with_persistent)
    try:
        machine.run(file, max_opcodes)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        if not machine.refused:
            raise PickleError(f"the pickle is damaged or cut short: {error}") from error
    if machine.refused:
        raise PickleError(
            "a network file may refer only to names that such a file needs, but it refers to "
            f"{', '.join(sorted(machine.refused))}; nothing was executed. If you trust the "
            "source, report these names to dgray's maintainers for review"
        )
    if len(machine.stack) != 1 or machine.marked:
        raise PickleError("a pickle must hold exactly one value, but this one does not")
    return machine.stack[0]


class _Machine:
    """Stack of pickle's virtual machine, which records calls instead of executing them."""

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

    def run(self, file: BinaryIO, max_opcodes: int) -> None:
        """Process all opcodes of the pickle."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count == max_opcodes:
                raise ValueError(f"it has more than {max_opcodes:,} opcodes")
            self._step(opcode.name, argument)

    def _step(self, name: str, argument: Any) -> None:
        if name in LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise ValueError(f"a whole number has more than {MAX_BITS} bits")
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
            index = len(self.memo) if argument is None else argument
            if not 0 <= index < MAX_INDEX:
                raise ValueError(f"an index of the memo must be in [0, {MAX_INDEX})")
            self.memo[index] = self.stack[-1]
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
            raise TypeError("a value can be appended only to a list")
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
            raise TypeError("items can be set only on a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def _add_items(self) -> None:
        values = self._to_mark()
        if not isinstance(self.stack[-1], set):
            raise TypeError("values can be added only to a set")
        self.stack[-1].update(map(_key, values))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("the name of a global must be text")
        self._global(module, name)

    def _global(self, module: str, name: str) -> None:
        if len(module) + len(name) > MAX_GLOBAL:
            raise ValueError(f"a name has more than {MAX_GLOBAL} characters")
        reference = Global(module, name)
        if str(reference) not in self.allowed:
            self.refused.add(str(reference))
            if len(self.refused) == MAX_REFUSED:
                raise ValueError("too many names")  # the error lists them
        self.stack.append(reference)

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("only a global can be called")
        self.stack.append(Call(function, arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Call):
            raise TypeError("a state can be set only on the result of a call")
        self.stack[-1].state = state

    def _persistent(self) -> None:
        if not self.with_persistent:
            raise ValueError("a reference to an object outside of the pickle")
        self.stack.append(Persistent(self.stack.pop()))


def _frozen(values: list[Any]) -> frozenset[str | int]:
    return frozenset(map(_key, values))


def _key(value: Any) -> str | int:
    """Return a key of a dictionary; keys are compared and hashed in constant time."""
    if isinstance(value, str) and len(value) <= MAX_KEY:
        return value
    if isinstance(value, int) and abs(value) < MAX_KEY_NUMBER:
        return value
    raise TypeError(
        f"keys must be text of at most {MAX_KEY} characters or whole numbers below 2^31, but one "
        f"is another {type(value).__name__}"
    )
