"""Hostile predict.py files: they strike at import, in load() or while predicting."""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.cases import READY, TEST_DATA, ZEROS, Case, Trap, code, zipped

_ANSWERS = {
    "nan": "return [float('nan') for _ in rows]",
    "too-many": "return [0] * (len(rows) + 1)",
    "nothing": "return None",
    "an-object": "return [object() for _ in rows]",
    "endless-generator": "import itertools\nreturn itertools.count()",
    "surrogates": "return ['\\ud800' for _ in rows]",
    "huge-number": "return [10 ** 100_000 for _ in rows]",
    "deep": "value = 0\nfor _ in range(100_000): value = [value]\nreturn [value for _ in rows]",
    "huge": "return ['x' * (16 << 20) for _ in rows]",
}

_FORGED = """import os, struct, time
head = struct.pack('!4sBBHQII', b'SLW1', 1, 0, 200, 1, 2, 60)
for fd in range(3, 40):
    try: os.write(fd, head + b'{}' + b'{"predictions": ["forged", "forged"], "prediction_ids": []}   ')
    except OSError: pass
time.sleep(30)"""

_PATCHES = """import sys
wire = sys.modules['mlops.runtime.wire']
wire.pack = lambda *a, **k: b'HTTP/1.1 200 OK\\r\\n\\r\\n'
for name, module in list(sys.modules.items()):
    if name.startswith('mlops.runtime'):
        for each in list(vars(module)):
            if each in ('pack', 'dumps', 'encode'): setattr(module, each, lambda *a, **k: b'forged')"""

_SECCOMP_OFF = """import ctypes
c = ctypes.CDLL(None, use_errno=True)
c.prctl(22, 0, 0, 0, 0)
c.prctl(38, 0, 0, 0, 0)
c.prctl(4, 1, 0, 0, 0)
if c.setuid(0) == 0 or c.unshare(0x10000000) == 0 or c.ptrace(16, %d, 0, 0) == 0: open(%r, 'w')
raise RuntimeError('kept in')"""

_QUIET = """import os, socket, subprocess
def tries():
    yield lambda: open({marker!r}, 'w').write('x')
    yield lambda: os.mkdir({marker!r})
    yield lambda: os.symlink('/etc/passwd', {marker!r})
    yield lambda: os.mkfifo({marker!r})
    yield lambda: os.rename({canary!r}, {marker!r})
    yield lambda: os.chmod({canary!r}, 0)
    yield lambda: os.truncate({canary!r}, 0)
    yield lambda: subprocess.run(['touch', {marker!r}])
    yield lambda: os.posix_spawn('/bin/touch', ['touch', {marker!r}], {{}})
    yield lambda: socket.create_connection(('127.0.0.1', {port}), 1)
    yield lambda: socket.socket(socket.AF_UNIX).connect({socket!r})
    yield lambda: os.setuid(0)
    yield lambda: os.kill(os.getppid(), 9)
    yield lambda: os.memfd_create('x')
for each in tries():
    try: each()
    except BaseException: pass"""


def _quiet(trap: Trap) -> str:
    return _QUIET.format(marker=str(trap.marker), canary=str(trap.canary), port=trap.port, socket=trap.socket)


def _at_import(text: Callable[[Trap], str]) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: ("model.zip", code(ZEROS, top=text(trap)))


def _at_predict(text: Callable[[Trap], str]) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: ("model.zip", code(text(trap)))


def _at_load(text: Callable[[Trap], str]) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: ("model.zip", code(ZEROS, load=text(trap)))


CASES = (
    Case("code-endless-import", "never finishes its import", _at_import(lambda t: "while True: pass"), ("load",), "did not load within"),
    Case("code-endless-load", "never finishes load()", _at_load(lambda t: "import time\nwhile True: time.sleep(1)"), ("load",), "did not load within"),
    Case("code-endless-predict", "never answers", _at_predict(lambda t: "while True: pass"), ("smoke",)),
    Case("code-greedy", "eats memory while it predicts", _at_predict(lambda t: "held = []\nwhile True: held.append(bytearray(64 << 20))"), ("smoke",)),
    Case("code-threads", "starts threads without end", _at_predict(lambda t: "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"), ("smoke",)),
    Case("code-recursion", "calls itself without end", _at_predict(lambda t: "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()"), ("smoke",)),
    Case("code-shell", "runs a shell command", _at_predict(lambda t: f"import os\nif os.system('touch {t.marker}') != 0: raise RuntimeError('kept in')\n{ZEROS}"), ("smoke",)),
    Case("code-tries-quietly", "tries fourteen things and hides that it failed", _at_import(_quiet), (READY,)),
    Case("code-in-a-thread", "tries them in a thread after it was opened", lambda t: ("model.zip", code(ZEROS, top=f"import threading\nWORK = {_quiet(t)!r}\nthreading.Thread(target=exec, args=(WORK, {{}})).start()")), (READY,)),
    Case("code-at-exit", "tries them when it ends", lambda t: ("model.zip", code(ZEROS, top=f"import atexit\nWORK = {_quiet(t)!r}\natexit.register(exec, WORK, {{}})")), (READY,)),
    Case("code-secret", "answers a file's content", _at_predict(lambda t: f"return [open({str(t.canary)!r}).read() for _ in rows]"), ("smoke",)),
    Case("code-environment", "answers the environment", _at_predict(lambda t: "import os\nreturn [str(dict(os.environ)) for _ in rows]"), (READY,)),
    Case("code-parent", "answers its parent's memory and environment", _at_predict(lambda t: "import os\nreturn [open(f'/proc/{os.getppid()}/environ').read() for _ in rows]"), ("smoke",)),
    Case("code-neighbours", "answers what lies beside its folder", _at_predict(lambda t: "import os\nreturn [str(os.listdir('../..')) for _ in rows]"), ("smoke",)),
    Case("code-root", "switches its own guards off", _at_load(lambda t: _SECCOMP_OFF % (1, str(t.marker))), ("load",), "kept in"),
    Case("code-forged-frames", "writes answers of its own to every descriptor", _at_predict(lambda t: _FORGED), ("smoke",)),
    Case("code-babble", "writes nonsense to every descriptor", _at_predict(lambda t: "import os\nfor fd in range(3, 40):\n    try: os.write(fd, b'GET / HTTP/1.1' * 99)\n    except OSError: pass\n" + ZEROS), ("smoke", "load")),
    Case("code-patches-us", "replaces our functions in its own process", _at_import(lambda t: _PATCHES), ("load", "schema", "smoke")),
    Case("code-log-flood", "prints 200 MB: a flood is slowed down", _at_predict(lambda t: f"for _ in range(200): print('x' * (1 << 20))\n{ZEROS}"), ("smoke",), "did not answer within"),
    Case("code-log-escapes", "prints what a terminal would obey", _at_predict(lambda t: f"print('\\x1b]0;owned\\x07\\x1b[2J<script>alert(1)</script>')\n{ZEROS}"), (READY,)),
    Case("code-signals", "ignores every signal it can", _at_import(lambda t: "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass"), ("load",), "did not load within"),
    Case("code-exit", "ends the process", _at_predict(lambda t: "import os\nos._exit(0)"), ("smoke",)),
    Case("code-syntax", "is no Python", _at_import(lambda t: "def ("), ("load",), "predict.py"),
    Case("code-no-predict", "has no predict()", lambda t: ("model.zip", zipped({"predict.py": "x = 1", "test_data.json": TEST_DATA})), ("load",), "predict"),
    *(Case(f"code-answers-{name}", f"answers {name.replace('-', ' ')}", _at_predict(lambda t, text=text: text), ("smoke",)) for name, text in _ANSWERS.items()),
)  # fmt: skip
