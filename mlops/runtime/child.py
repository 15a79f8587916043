"""A forked process: it locks itself in, puts its dependency set before our libraries where it has one, and becomes a runner, a probe or a victim.

Everything imported here is light, for the bare template imports it: what needs NumPy is in ``loop``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from mlops.runtime import probes, sandbox
from mlops.runtime.gauge import Gauge
from mlops.runtime.wire import pack, receive

SEND_S = 5.0  # at the end: whoever has not read his answers by then does not get them
NEVER = 10 * 365 * 86400.0
_LIBRARIES_HINT = "Build the version's dependencies again, or pin other versions in its requirements."


def main(
    mode: str,
    policy: sandbox.Policy,
    model_path: str,
    parent_pid: int,
    gauge: Gauge,
    before: Callable[[], None],
    be_set: Callable[..., None] | None = None,
) -> NoReturn:
    """Everything a forked child does, never returning. Descriptors: 3 status socket, 4 listening socket, 1 and 2 the log.

    ``before`` is called between the lock-down and the first import of the runner's own code: a dependency set goes on the path there.
    ``be_set`` becomes the zygote of a dependency set, with the listening socket as its control line.
    """
    status = socket.socket(fileno=sandbox.FIRST_KEPT)
    status.setblocking(True)
    code = 1
    try:
        listener = socket.socket(fileno=sandbox.FIRST_KEPT + 1)
        faulthandler.enable(file=2)
        if mode == "victim":
            _be_victim(status, policy, parent_pid)
        elif mode == "sweep":
            _sweep(policy)
        elif mode == "set" and be_set is not None:
            be_set(status, listener, policy, parent_pid)
        else:
            start = time.perf_counter()
            sandbox.enter(policy, parent_pid)
            if mode == "probe":
                tell(status, "probed", results=probes.run(receive(status, time.monotonic() + NEVER).header, policy))
            else:
                sandbox.check(model_path)
                tell(status, "locked", ms=round((time.perf_counter() - start) * 1e3, 2))
                _serve(status, listener, gauge, before)
        code = 0
    except sandbox.SandboxError as error:
        tell(status, "sandbox_failed", layer=error.layer, detail=error.detail)
    except BaseException:  # noqa: BLE001  nothing may return into the zygote's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(status: socket.socket, listener: socket.socket, gauge: Gauge, before: Callable[[], None]) -> None:
    try:
        before()
        from mlops.runtime import loop
    except BaseException as error:  # noqa: BLE001  the set's own NumPy may raise anything while it is imported
        traceback.print_exc()
        detail = f"The runner's libraries could not be imported: {type(error).__name__}: {error}"
        tell(status, "load_failed", code="libraries_broken", detail=detail[:2000], hint=_LIBRARIES_HINT)
        return
    loop.run(status, listener, gauge)


def _be_victim(status: socket.socket, policy: sandbox.Policy, parent_pid: int) -> None:
    """A process of our own user that the probes attack; it waits until the supervisor hangs up."""
    sandbox.enter(
        sandbox.Policy((), policy.memory_bytes, policy.uid, without=frozenset({"landlock", "seccomp", "rlimits"})),
        parent_pid,
    )
    tell(status, "victim", pid=os.getpid())
    status.recv(1)


def _sweep(policy: sandbox.Policy) -> None:
    """End every process of a user: what a set's zygote may have left behind. The kernel does it at once, so no fork slips through."""
    assert policy.uid is not None
    sandbox.become(policy.uid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def tell(status: socket.socket, event: str, **fields: Any) -> None:
    """A word to the supervisor."""
    status.settimeout(SEND_S)
    status.sendall(pack(0, {"event": event, **fields}))


def default_signals() -> None:
    """Undo the zygote's handlers in a fresh child."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
