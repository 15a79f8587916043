"""Running the self-proof: a dummy victim, a locked-in attacker, a verdict that names what leaks and how to mend it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime import probes, wire
from mlops.runtime.errors import HostError, SandboxUnavailable
from mlops.runtime.runners import Child
from mlops.runtime.sandbox import Policy

_PROOF_S = 20.0
_PROOF_MEMORY_BYTES = 256 << 20

Fork = Callable[[str, Policy, str, socket.socket | None], Child]


@dataclass(frozen=True)
class Verdict:
    """Whether the sandbox holds, with every probe's result. ``at`` is time.time()."""

    ok: bool
    at: float
    probes: list[dict[str, Any]] = field(default_factory=list)
    detail: str = ""
    fix: str = ""
    ms: float = 0.0

    def require(self) -> None:
        """Raises SandboxUnavailable unless the sandbox holds."""
        if not self.ok:
            raise SandboxUnavailable(self.detail, self.fix)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "at": self.at,
            "detail": self.detail,
            "fix": self.fix,
            "ms": self.ms,
            "probes": self.probes,
        }


def prove(
    fork: Fork,
    uid: int | None,
    without: frozenset[str],
    folder: str | None = None,
    *,
    forks: bool = False,
    writable: str = "",
) -> Verdict:
    """Attack a victim from inside the sandbox that runners get. Never raises: what goes wrong is a verdict of not ok.

    ``forks``: from inside that of a dependency set's zygote, which may fork and nothing else beyond it.

    ``writable``: from inside that of a training, which may write in that folder and nowhere else.

    ``folder``: where the victim's files are made (the system's temporary folder by default); a launcher's inside must show it.
    """
    start = time.perf_counter()
    try:
        with _victim(fork, uid, folder) as victim:
            policy = Policy((victim["own"],), _PROOF_MEMORY_BYTES, uid, without=without, forks=forks, writable=writable)
            results = _attack(fork, victim, policy)
    except _Leak as leak:
        return Verdict(False, time.time(), detail=leak.detail, fix=probes.FIXES[leak.layer])
    except (HostError, OSError, wire.WireError) as error:
        return Verdict(
            False, time.time(), detail=f"The sandbox could not be tried: {error}.", fix=probes.FIXES["zygote"]
        )
    ms = round((time.perf_counter() - start) * 1e3, 1)
    known = (probes.OPEN_TO_SETS if forks else frozenset()) | (probes.OPEN_TO_TRAININGS if writable else frozenset())
    through = [each for each in probes.failures(results) if each["name"] not in known]
    if not through:
        return Verdict(True, time.time(), results, ms=ms)
    first = through[0]
    names = ", ".join(result["name"] for result in through[:8]) + (" and more" if len(through) > 8 else "")
    return Verdict(
        False,
        time.time(),
        results,
        f"The sandbox leaks (probes {names}): {first['detail']}. No uploaded model is run.",
        probes.FIXES[first["layer"]],
        ms,
    )


class _Leak(Exception):
    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(detail)
        self.layer = layer
        self.detail = detail


def _attack(fork: Fork, victim: dict[str, Any], policy: Policy) -> list[dict[str, Any]]:
    child = fork("probe", policy, victim["own"], None)
    try:
        deadline = time.monotonic() + _PROOF_S
        child.send(victim, deadline)
        event = child.next_event(deadline)
    except wire.WireError:
        child.exited.wait(1)
        raise _Leak(
            "seccomp", f"The probe process vanished ({child.why_it_ended()}): {child.log.text()[-300:]}"
        ) from None
    finally:
        child.kill()
        child.close()
    if event.get("event") == "sandbox_failed":
        layer = str(event["layer"])
        raise _Leak(
            layer,
            f"The sandbox's layer {layer} could not be put in place: {event['detail']}. No uploaded model is run.",
        )
    results: list[dict[str, Any]] = event["results"]
    return results


@contextlib.contextmanager
def _victim(fork: Fork, uid: int | None, below: str | None) -> Iterator[dict[str, Any]]:
    folder, beside = (tempfile.mkdtemp(prefix="slipway-proof-", dir=below) for _ in range(2))
    # Open to all, so that only the sandbox and no file mode keeps the attacker out.
    for each in (folder, beside):
        os.chmod(each, 0o777)  # noqa: S103
    secret, own = os.path.join(folder, "secret"), os.path.join(beside, "model")
    for path in (secret, own):
        with open(path, "w", encoding="ascii") as file:
            file.write("a secret\n")
        os.chmod(path, 0o666)  # noqa: S103
        if uid is not None:
            os.chown(path, uid, uid)
    child = fork("victim", Policy((), _PROOF_MEMORY_BYTES, uid), own, None)
    try:
        event = child.next_event(time.monotonic() + _PROOF_S)
        if event.get("event") != "victim":
            raise _Leak(
                str(event.get("layer", "identity")), f"The proof's victim could not start: {event.get('detail')}."
            )
        yield {"pid": child.inner_pid, "folder": folder, "secret": secret, "own": own}
    finally:
        child.kill()
        child.close()
        for each in (folder, beside):
            shutil.rmtree(each, ignore_errors=True)
