"""Where runners with a dependency set of their own come from."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlops.runtime.bare import BareLine
from mlops.runtime.launchers import Launcher
from mlops.runtime.proof import Verdict
from mlops.runtime.runners import Child, Logs
from mlops.runtime.sandbox import Policy
from mlops.runtime.spec import ModelSpec
from mlops.runtime.template import Zygote

_OWN_MAPS = "/proc/self/maps"  # scikit-learn looks there for the thread pools of what it has loaded


class Sets:
    """Thread-safe but for ``tick`` and ``stop``, which belong to the main thread."""

    def __init__(
        self,
        logs: Logs,
        on_exit: Callable[[Child], None],
        stir: Callable[[], None],
        proof: Callable[[Zygote], Verdict | None],
        launcher: Launcher,
    ) -> None:
        self._bare = BareLine(logs, on_exit, stir, proof, launcher)

    def tick(self) -> None:
        self._bare.tick()

    def stop(self) -> None:
        self._bare.stop()

    def fork(self, spec: ModelSpec, policy: Policy, listener: socket.socket) -> Child:
        """A locked-in process that has the set of ``spec`` before our libraries. Raises HostError."""
        assert spec.environment is not None
        zygote = self._bare.zygote()
        policy = replace(policy, readable=(*policy.readable, _OWN_MAPS))
        return zygote.fork("runner", policy, spec.path, listener, libraries=spec.environment["path"])

    def status(self) -> dict[str, Any]:
        """What the host's status tells of them."""
        return {"bare_pid": self._bare.pid}
