"""What would this pickle import and call? Read opcode by opcode, nothing is executed or imported. Advice, never a gate."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
import zlib
from dataclasses import dataclass, field
from typing import IO

from mlops.runtime.pickle_machine import PIECE_BYTES, Budget, Counted, Machine, Readable

MAX_SECONDS = 5.0

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
    machine = Machine(Counted(stream), time.monotonic() + max_seconds)
    found = PickleScan(machine.imports, machine.calls)
    try:
        machine.run(0)
        found.complete = True
    except Budget as error:
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
        packed = self._inflater.unconsumed_tail or self._stream.read(PIECE_BYTES)
        if not packed:
            if not self._inflater.eof:
                raise EOFError("the compressed data ended early")
            return False
        # Bounded output: a bomb must not be inflated in one go.
        self._ready += self._inflater.decompress(packed, PIECE_BYTES)
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
