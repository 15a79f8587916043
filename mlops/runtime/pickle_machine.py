"""The pickle machine without its effects: which names a pickle would import and call, in order of appearance.

joblib writes the raw bytes of arrays between opcodes; the stack is followed just far enough to know how many bytes to step over,
so that the whole file is seen.
"""

from __future__ import annotations

import math
import pickletools
import time
from dataclasses import dataclass
from typing import Any, Protocol

MAX_OPCODES = 5_000_000
MAX_BYTES = 2 << 30
PIECE_BYTES = 1 << 20
_MAX_READ = 512 << 20
_MAX_NESTING = 8


class Readable(Protocol):
    """All that a look needs of a file."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class Budget(Exception):
    """Enough was read."""


class Counted:
    """A stream with a byte budget; genops asks for read and readline."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = MAX_BYTES

    def read(self, size: int) -> bytes:
        if size > _MAX_READ or size > self._left:
            raise Budget("a part of the file is too large to look into")
        self._left -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline()
        self._left -= len(line)
        return line

    def skip(self, size: int) -> None:
        if size > self._left:
            raise Budget("the file is too large to look through")
        self._left -= size
        while size > 0:
            chunk = self._stream.read(min(size, PIECE_BYTES))
            if not chunk:
                raise EOFError("the data ends inside an array")
            size -= len(chunk)


class _Mark:
    pass


_MARK = _Mark()


@dataclass
class _Global:
    name: str


@dataclass
class _Built:
    """The result of a call we did not make."""

    name: str
    args: Any = ()


class Machine:
    """The pickle machine without its effects: constants, tuples and dicts are real, everything else is a name."""

    def __init__(self, stream: Counted, deadline: float) -> None:
        self.stream = stream
        self.imports: list[str] = []
        self.calls: list[str] = []
        self.deadline = deadline
        self.opcodes = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._seen_imports: set[str] = set()
        self._seen_calls: set[str] = set()

    def run(self, depth: int) -> None:
        if depth > _MAX_NESTING:
            raise Budget("pickles are nested too deeply")
        kept = (self.stack, self.memo)
        self.stack, self.memo = [], {}
        for opcode, arg, _ in pickletools.genops(self.stream):  # type: ignore[arg-type]
            self.opcodes += 1
            if self.opcodes & 0xFFF == 0 and (time.monotonic() > self.deadline or self.opcodes > MAX_OPCODES):
                raise Budget("the file is too long to look through")
            self._step(opcode.name, arg, depth)
        self.stack, self.memo = kept

    def _step(self, name: str, arg: Any, depth: int) -> None:
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, arg)
        elif name == "BUILD":
            self._build(depth)
        elif name in _CONSTANTS:
            self.stack.append(arg)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        # PROTO, FRAME, STOP and the buffer opcodes leave the stack as it is.

    # -- names ----------------------------------------------------------------------------------------------------

    def _import(self, name: str) -> _Global:
        # Protocols before 3 write Python 2's name for the same module.
        name = "builtins." + name.removeprefix("__builtin__.") if name.startswith("__builtin__.") else name
        if name not in self._seen_imports:
            self._seen_imports.add(name)
            self.imports.append(name)
        return _Global(name)

    def _call(self, function: Any, args: Any) -> None:
        name = function.name if isinstance(function, (_Global, _Built)) else "?"
        if name not in self._seen_calls:
            self._seen_calls.add(name)
            self.calls.append(name)
        self.stack.append(_Built(name, args))

    def do_global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(self._import(f"{module}.{name}"))

    def do_stack_global(self, arg: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        known = isinstance(name, str) and isinstance(module, str)
        self.stack.append(self._import(f"{module}.{name}" if known else "?"))

    def do_inst(self, arg: str) -> None:
        args = self._to_mark()
        module, _, name = arg.partition(" ")
        self._call(self._import(f"{module}.{name}"), tuple(args))

    def do_obj(self, arg: Any) -> None:
        items = self._to_mark()
        self._call(items[0], tuple(items[1:]))

    def do_reduce(self, arg: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self._call(function, args)

    def do_newobj_ex(self, arg: Any) -> None:
        self.stack.pop()
        self.do_reduce(arg)

    # -- stack ----------------------------------------------------------------------------------------------------

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        return items

    def do_mark(self, arg: Any) -> None:
        self.stack.append(_MARK)

    def do_pop(self, arg: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, arg: Any) -> None:
        self._to_mark()

    def do_dup(self, arg: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, arg: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def do_list(self, arg: Any) -> None:
        self.stack.append(self._to_mark())

    def do_dict(self, arg: Any) -> None:
        self._to_mark()
        self.stack.append({})

    def _last(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("the stack is too short")
        del self.stack[-count:]
        self.stack.append(tuple(items))

    def do_tuple1(self, arg: Any) -> None:
        self._last(1)

    def do_tuple2(self, arg: Any) -> None:
        self._last(2)

    def do_tuple3(self, arg: Any) -> None:
        self._last(3)

    def do_setitem(self, arg: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def do_setitems(self, arg: Any) -> None:
        items = self._to_mark()
        for key, value in zip(items[::2], items[1::2], strict=False):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        # Only text keys matter (an array's description); others are not kept, so nothing unhashable gets here.
        if isinstance(self.stack[-1], dict) and isinstance(key, str):
            self.stack[-1][key] = value

    def do_put(self, arg: Any) -> None:
        self.memo[int(arg)] = self.stack[-1]

    def do_memoize(self, arg: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, arg: Any) -> None:
        self.stack.append(self.memo[int(arg)])

    def do_binpersid(self, arg: Any) -> None:
        self.stack.pop()
        self.stack.append(None)

    def do_unknown(self, arg: Any) -> None:
        self.stack.append(None)

    # -- joblib's arrays ------------------------------------------------------------------------------------------

    def _build(self, depth: int) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if (
            isinstance(target, _Built)
            and target.name == "joblib.numpy_pickle.NumpyArrayWrapper"
            and isinstance(state, dict)
        ):
            self._step_over_array(state, depth)

    def _step_over_array(self, state: dict[str, Any], depth: int) -> None:
        dtype = state.get("dtype")
        kind = dtype.args[0] if isinstance(dtype, _Built) and isinstance(dtype.args, tuple) and dtype.args else None
        shape = state.get("shape")
        if (
            not isinstance(kind, str)
            or not isinstance(shape, tuple)
            or not all(isinstance(size, int) and size >= 0 for size in shape)
        ):
            raise ValueError("an array's description cannot be read")
        if "O" in kind:
            self.run(depth + 1)  # an array of objects is a pickle of its own
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = self.stream.read(1)
            self.stream.skip(padding[0] if padding else 0)
        self.stream.skip(math.prod(shape) * _item_bytes(kind))


def _item_bytes(kind: str) -> int:
    """numpy's size of "f8", "<U12", "V64", "b1"."""
    text = kind.lstrip("<>|=")
    letter, digits = text[:1], text[1:].partition("[")[0]
    size = int(digits) if digits else 1
    return size * 4 if letter == "U" else size


_HANDLERS: dict[str, Any] = {
    "GLOBAL": Machine.do_global,
    "STACK_GLOBAL": Machine.do_stack_global,
    "INST": Machine.do_inst,
    "OBJ": Machine.do_obj,
    "REDUCE": Machine.do_reduce,
    "NEWOBJ": Machine.do_reduce,
    "NEWOBJ_EX": Machine.do_newobj_ex,
    "MARK": Machine.do_mark,
    "POP": Machine.do_pop,
    "POP_MARK": Machine.do_pop_mark,
    "APPEND": Machine.do_pop,
    "APPENDS": Machine.do_pop_mark,
    "ADDITEMS": Machine.do_pop_mark,
    "DUP": Machine.do_dup,
    "TUPLE": Machine.do_tuple,
    "TUPLE1": Machine.do_tuple1,
    "TUPLE2": Machine.do_tuple2,
    "TUPLE3": Machine.do_tuple3,
    "LIST": Machine.do_list,
    "FROZENSET": Machine.do_list,
    "DICT": Machine.do_dict,
    "SETITEM": Machine.do_setitem,
    "SETITEMS": Machine.do_setitems,
    "PUT": Machine.do_put,
    "BINPUT": Machine.do_put,
    "LONG_BINPUT": Machine.do_put,
    "MEMOIZE": Machine.do_memoize,
    "GET": Machine.do_get,
    "BINGET": Machine.do_get,
    "LONG_BINGET": Machine.do_get,
    "PERSID": Machine.do_unknown,
    "BINPERSID": Machine.do_binpersid,
    "EXT1": Machine.do_unknown,
    "EXT2": Machine.do_unknown,
    "EXT4": Machine.do_unknown,
    "NEXT_BUFFER": Machine.do_unknown,
    "NONE": Machine.do_unknown,
}
_CONSTANTS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
        "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT",
    )
)  # fmt: skip
_EMPTY: dict[str, Any] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
