"""What would this pickle import and call? Read opcode by opcode, nothing is executed or imported. Advice, never a gate.

joblib writes the raw bytes of arrays between opcodes; a small symbolic machine follows the stack far enough to know
how many bytes to step over, so that the whole file is seen.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import pickletools
import time
import zlib
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

MAX_SECONDS = 5.0
MAX_OPCODES = 5_000_000
MAX_BYTES = 2 << 30
_MAX_READ = 512 << 20
_MAX_NESTING = 8
_SKIP_CHUNK = 1 << 20

# Modules a model has no reason to import. The first dotted part is compared.
_DANGEROUS_MODULES = frozenset(
    (
        "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "_socket", "ctypes", "_ctypes", "importlib", "runpy", "pty",
        "commands", "webbrowser", "multiprocessing", "signal", "code", "codeop", "pdb", "bdb", "timeit", "profile", "cProfile", "trace",
        "doctest", "pickle", "_pickle", "dill", "marshal", "types", "asyncio", "urllib", "urllib2", "http", "httplib", "requests", "httpx",
        "ftplib", "smtplib", "telnetlib", "tempfile", "pathlib", "io", "_io", "zipimport", "pip", "ensurepip", "venv", "site", "resource",
        "fcntl", "mmap", "inspect", "gc", "threading", "_thread", "ssl", "sqlite3", "uuid", "platform", "getpass", "idlelib", "pydoc",
        "cffi", "atexit", "logging", "builtins.eval",
    )
)  # fmt: skip
_SAFE_BUILTINS = frozenset(
    (
        "list", "dict", "set", "frozenset", "tuple", "int", "float", "str", "bytes", "bytearray", "bool", "complex", "object", "slice",
        "range", "type", "len", "abs", "max", "min", "sum", "round", "NotImplementedType", "ellipsis", "long", "unicode", "xrange",
    )
)  # fmt: skip
_DANGEROUS_NAMES = frozenset(
    (
        "operator.attrgetter", "operator.methodcaller", "operator.call", "torch.load", "torch.jit.load", "torch.hub.load", "joblib.load",
        "joblib.numpy_pickle.load", "numpy.load", "pandas.eval", "pandas.read_pickle", "pandas.io.pickle.read_pickle", "skops.io.load",
        "numpy.testing._private.utils.runstring", "numpy.f2py.diagnose.run_command", "torch.utils._config_module.load_config",
        "torch._dynamo.guards.GuardBuilder.get", "torch.serialization.load", "torch.storage._load_from_bytes",
        "cloudpickle.cloudpickle._make_function", "cloudpickle.cloudpickle._builtin_type", "cloudpickle.cloudpickle._make_skeleton_class",
        "cloudpickle.cloudpickle.subimport", "xgboost.core.ctypes", "numpy.distutils.exec_command.exec_command",
    )
)  # fmt: skip
_KNOWN_MODULES = frozenset(
    (
        "sklearn", "numpy", "scipy", "xgboost", "lightgbm", "joblib", "pandas", "pyarrow", "collections", "copyreg", "copy_reg", "datetime",
        "decimal", "fractions", "functools", "operator", "re", "_codecs", "codecs", "itertools", "torch", "__torch__", "random", "enum",
        "onnx", "pathlib._local", "string", "math", "zoneinfo", "pytz", "dateutil", "array",
    )
)  # fmt: skip


class Readable(Protocol):
    """All that a look needs of a file."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class _Budget(Exception):
    """Enough was read."""


@dataclass
class PickleScan:
    """What a pickle refers to. `imports` and `calls` are dotted names in order of appearance."""

    imports: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    complete: bool = False
    truncated: bool = False
    problem: str = ""

    @property
    def dangerous(self) -> list[str]:
        return [name for name in self.imports if is_dangerous(name)]

    @property
    def unknown(self) -> list[str]:
        """Imports from modules that are neither dangerous nor a known library: the author's own code."""
        return [name for name in self.imports if not is_dangerous(name) and not _is_known(name)]


def is_dangerous(name: str) -> bool:
    top, _, rest = name.partition(".")
    if top == "builtins":
        return rest not in _SAFE_BUILTINS and not rest.endswith(("Error", "Exception", "Warning"))
    return top in _DANGEROUS_MODULES or name in _DANGEROUS_NAMES or name == "?"


def _is_known(name: str) -> bool:
    top = name.partition(".")[0]
    return top in _KNOWN_MODULES or top == "builtins"


def scan(stream: Readable, *, max_seconds: float = MAX_SECONDS) -> PickleScan:
    """Follow one pickle (plain or joblib's) to its STOP, or until the budget is used up."""
    found = PickleScan()
    machine = _Machine(_Counted(stream), found, time.monotonic() + max_seconds)
    try:
        machine.run(0)
        found.complete = True
    except _Budget as error:
        found.problem = str(error)
    except EOFError as error:
        found.truncated, found.problem = True, str(error) or "the data ends early"
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
        OSError,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        found.truncated = (
            "exhausted" in str(error) or "remain" in str(error) or "no newline" in str(error) or "ended" in str(error)
        )
        found.problem = str(error)[:200]
    return found


def decompressed(stream: IO[bytes], head: bytes) -> Readable | None:
    """The stream under joblib's compressions (gzip, zlib, bz2, xz, lzma); None for one we cannot open."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return lzma.LZMAFile(stream)
    if head[:1] == b"\x78" and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        return _ZlibFile(stream)
    return None


class _ZlibFile:
    """zlib streams have no file class in the library: read and readline are all a pickle needs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj()
        self._ready = b""

    def _more(self) -> bool:
        packed = self._inflater.unconsumed_tail or self._stream.read(_SKIP_CHUNK)
        if not packed:
            if not self._inflater.eof:
                raise EOFError("the compressed data ended early")
            return False
        # Bounded output: a bomb must not be inflated in one go.
        self._ready += self._inflater.decompress(packed, _SKIP_CHUNK)
        return bool(self._ready) or not self._inflater.eof

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            if not self._ready and not self._more():
                break
            parts.append(self._ready[:size])
            self._ready = self._ready[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def readline(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) < 1 << 20:
            letter = self.read(1)
            if not letter:
                break
            line += letter
        return line


class _Counted:
    """A stream with a byte budget; genops asks for read and readline."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = MAX_BYTES

    def read(self, size: int) -> bytes:
        if size > _MAX_READ or size > self._left:
            raise _Budget("a part of the file is too large to look into")
        self._left -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline()
        self._left -= len(line)
        return line

    def skip(self, size: int) -> None:
        if size > self._left:
            raise _Budget("the file is too large to look through")
        self._left -= size
        while size > 0:
            chunk = self._stream.read(min(size, _SKIP_CHUNK))
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


class _Machine:
    """The pickle machine without its effects: constants, tuples and dicts are real, everything else is a name."""

    def __init__(self, stream: _Counted, found: PickleScan, deadline: float) -> None:
        self.stream = stream
        self.found = found
        self.deadline = deadline
        self.opcodes = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._seen_imports: set[str] = set()
        self._seen_calls: set[str] = set()

    def run(self, depth: int) -> None:
        if depth > _MAX_NESTING:
            raise _Budget("pickles are nested too deeply")
        kept = (self.stack, self.memo)
        self.stack, self.memo = [], {}
        for opcode, arg, _ in pickletools.genops(self.stream):  # type: ignore[arg-type]
            self.opcodes += 1
            if self.opcodes & 0xFFF == 0 and (time.monotonic() > self.deadline or self.opcodes > MAX_OPCODES):
                raise _Budget("the file is too long to look through")
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
            self.found.imports.append(name)
        return _Global(name)

    def _call(self, function: Any, args: Any) -> None:
        name = function.name if isinstance(function, (_Global, _Built)) else "?"
        if name not in self._seen_calls:
            self._seen_calls.add(name)
            self.found.calls.append(name)
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
    "GLOBAL": _Machine.do_global,
    "STACK_GLOBAL": _Machine.do_stack_global,
    "INST": _Machine.do_inst,
    "OBJ": _Machine.do_obj,
    "REDUCE": _Machine.do_reduce,
    "NEWOBJ": _Machine.do_reduce,
    "NEWOBJ_EX": _Machine.do_newobj_ex,
    "MARK": _Machine.do_mark,
    "POP": _Machine.do_pop,
    "POP_MARK": _Machine.do_pop_mark,
    "APPEND": _Machine.do_pop,
    "APPENDS": _Machine.do_pop_mark,
    "ADDITEMS": _Machine.do_pop_mark,
    "DUP": _Machine.do_dup,
    "TUPLE": _Machine.do_tuple,
    "TUPLE1": _Machine.do_tuple1,
    "TUPLE2": _Machine.do_tuple2,
    "TUPLE3": _Machine.do_tuple3,
    "LIST": _Machine.do_list,
    "FROZENSET": _Machine.do_list,
    "DICT": _Machine.do_dict,
    "SETITEM": _Machine.do_setitem,
    "SETITEMS": _Machine.do_setitems,
    "PUT": _Machine.do_put,
    "BINPUT": _Machine.do_put,
    "LONG_BINPUT": _Machine.do_put,
    "MEMOIZE": _Machine.do_memoize,
    "GET": _Machine.do_get,
    "BINGET": _Machine.do_get,
    "LONG_BINGET": _Machine.do_get,
    "PERSID": _Machine.do_unknown,
    "BINPERSID": _Machine.do_binpersid,
    "EXT1": _Machine.do_unknown,
    "EXT2": _Machine.do_unknown,
    "EXT4": _Machine.do_unknown,
    "NEXT_BUFFER": _Machine.do_unknown,
    "NONE": _Machine.do_unknown,
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
