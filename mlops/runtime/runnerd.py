"""runnerd: the runner host's process. ``python -m mlops.runtime.runnerd --run-dir DIR --artifacts DIR [--environments DIR] [--cache-bytes N] [--idle-s N]``.

It starts itself again with an empty environment, so that it holds no secret; listens on DIR/runnerd.sock (same user or root only);
ends cleanly on SIGTERM. If it dies, the kernel ends the zygote and every runner.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

import orjson

from mlops.runtime import cgroups, sandbox, wire
from mlops.runtime.errors import HostError
from mlops.runtime.limits import CONTROL_BYTES, SANDBOXES, runtime_settings
from mlops.runtime.loading import Runner
from mlops.runtime.nursery import Config
from mlops.runtime.spec import ModelSpec
from mlops.runtime.supervisor import Supervisor

logger = logging.getLogger("slipway.runnerd")
_CONTROL_S = 10.0
_CONNECTIONS = 256  # callers may wait here for a slow load; a word about another model must still get through
_KEPT_ENVIRONMENT = (
    "PATH",
    "LANG",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "SLIPWAY_TESTING",
    "SLIPWAY_MODEL_CACHE_BYTES",
    "SLIPWAY_SANDBOX",
    "SANDBOX",
)


class Server:
    """The control socket: one short conversation per connection, one thread each."""

    def __init__(self, supervisor: Supervisor, path: str) -> None:
        self.supervisor = supervisor
        self.path = path
        self._listener = wire.listen(path)
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)

    def start(self) -> None:
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        if os.path.lexists(self.path):
            os.unlink(self.path)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._slots.acquire()
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        try:
            with sock:
                if _peer_uid(sock) not in (0, os.geteuid()):
                    return
                frame = wire.receive(sock, time.monotonic() + _CONTROL_S, CONTROL_BYTES)
                status, answer = self._answer(frame.header)
                wire.send(
                    sock, wire.pack(frame.request_id, {}, orjson.dumps(answer), status), time.monotonic() + _CONTROL_S
                )
        except (OSError, wire.WireError) as error:
            logger.info("control connection ended: %s", error)
        finally:
            self._slots.release()

    def _answer(self, header: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            used = header.get("used") or {}, header.get("peaks") or {}, str(header.get("client", ""))
            runners = self.supervisor.used(*used)
            return 200, self._do(str(header.get("op")), header) | (
                {"runners": runners} if header["op"] == "used" else {}
            )
        except HostError as error:
            return error.status, error.to_json()
        except Exception as error:  # one bad request must not end the server
            logger.exception("control request failed")
            return 500, HostError(
                f"The runner host failed: {type(error).__name__}: {error}", "See runnerd's log."
            ).to_json()

    def _do(self, op: str, header: dict[str, Any]) -> dict[str, Any]:
        supervisor = self.supervisor
        if op == "ensure":
            spec = ModelSpec.from_json(header["spec"])
            return _loaded(*supervisor.ensure(spec, header.get("hold_s")), supervisor)
        if op == "unload":
            return {"unloaded": supervisor.unload(header["key"])}
        if op == "pin":
            supervisor.pin(header["key"], bool(header["pinned"]))
            return {}
        if op == "kill":
            return {"killed": supervisor.kill(header["key"], int(header["generation"]), str(header["reason"]))}
        if op == "overdue":
            return {"killed": supervisor.overdue(header["key"], int(header["generation"]))}
        if op == "why":
            return supervisor.why(header["key"], int(header["generation"]))
        if op == "logs":
            return {"log": supervisor.logs(header["key"])}
        if op == "prove":
            return supervisor.prove().to_json()
        if op == "used":
            return {}
        if op == "status":
            return supervisor.status()
        return self._of_training(op, header)

    def _of_training(self, op: str, header: dict[str, Any]) -> dict[str, Any]:
        trainings, key = self.supervisor.trainings, str(header.get("key", ""))
        if op == "train":
            trainings.start(ModelSpec.from_json(header["spec"]), str(header["folder"]), int(header["out_bytes"]))
            return {}
        if op == "training":
            return trainings.told(key)
        if op == "stop_training":
            return {"stopped": trainings.stop(key, str(header.get("reason", "")))}
        if op == "forget_training":
            trainings.forget(key)
            return {}
        raise HostError(f"The runner host has no operation {op!r}.")


def _loaded(runner: Runner, cold: bool, supervisor: Supervisor) -> dict[str, Any]:
    key = runner.spec.key
    return {
        "runners": [each.told() for each in supervisor.runners(key)],
        "generation": runner.generation,
        "device": runner.device,
        "load_ms": runner.load_ms,
        "memory_bytes": max((entry.size_bytes for entry in supervisor.cache.group(key)), default=0),
        "cold": cold,
        "notes": runner.notes,
    }


def _peer_uid(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return int(uid)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runnerd", description="Runs uploaded models in sandboxed processes.")
    parser.add_argument("--run-dir", required=True, help="folder for sockets (made with mode 0700)")
    parser.add_argument(
        "--artifacts", required=True, action="append", help="folder that model files must be in; may be given again"
    )
    parser.add_argument(
        "--environments", action="append", default=[], help="folder that dependency sets must be in; may be given again"
    )
    parser.add_argument(
        "--trainings", action="append", default=[], help="folder that trainings write below; may be given again"
    )
    parser.add_argument(
        "--sets", type=int, default=8, help="dependency sets that are held imported at one time; 0 is none"
    )
    parser.add_argument(
        "--sets-idle-s", type=float, default=600.0, help="end such a one that had no runner for so long"
    )
    parser.add_argument(
        "--cache-bytes", type=int, default=None, help="memory for loaded models (default SLIPWAY_MODEL_CACHE_BYTES)"
    )
    parser.add_argument(
        "--idle-s", type=float, default=900.0, help="unload a model that nobody asked for so long; 0 is never"
    )
    parser.add_argument(
        "--cores", type=int, default=None, help="processes of one model at most (default: the cores there are)"
    )
    parser.add_argument(
        "--sandbox",
        choices=SANDBOXES,
        default=None,
        help="what bounds the runners (default SLIPWAY_SANDBOX, else auto)",
    )
    parser.add_argument("--knockout", action="append", default=[], choices=sandbox.LAYERS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--no-preload", action="store_true", help="start at once; every runner then imports its libraries itself"
    )
    parser.add_argument("--clean", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.knockout and os.environ.get("SLIPWAY_TESTING") != "1":
        parser.error("--knockout is for Slipway's own tests (SLIPWAY_TESTING=1)")
    return options


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    arguments = sys.argv[1:] if argv is None else argv
    options = _arguments(arguments)
    if not options.clean:
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        # The same program and words again, minus the environment's secrets.
        os.execve(sys.executable, [sys.executable, "-m", "mlops.runtime.runnerd", *arguments, "--clean"], kept)  # noqa: S606
    try:
        settings = runtime_settings()
    except ValueError as error:
        sys.stderr.write(f"runnerd: {error}\n")
        return 2
    logging.basicConfig(level=logging.INFO, format="runnerd %(levelname)s %(message)s", stream=sys.stderr)
    run_dir = os.path.abspath(options.run_dir)
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    os.chmod(run_dir, 0o700)
    _remove_stale(run_dir)
    config = Config(
        run_dir,
        _folders(options.artifacts),
        options.cache_bytes or settings.cache_bytes,
        options.idle_s,
        frozenset(options.knockout),
        not options.no_preload,
        _folders(options.environments),
        options.sandbox or settings.sandbox,
        options.sets,
        options.sets_idle_s,
        _folders(options.trainings),
    )
    return _serve(Supervisor(config, cores=options.cores, groups=cgroups.find()), os.path.join(run_dir, "runnerd.sock"))


def _folders(paths: list[str]) -> tuple[str, ...]:
    """Made where they are missing, links resolved: what comes into them later must be visible to runners too."""
    for path in paths:
        os.makedirs(path, exist_ok=True)
    return tuple(dict.fromkeys(each for path in paths for each in (os.path.realpath(path), os.path.abspath(path))))


def _serve(supervisor: Supervisor, path: str) -> int:
    stopping, stirred = threading.Event(), supervisor.nursery.stirred

    def stop(*_: object) -> None:
        stopping.set()
        stirred.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    supervisor.start()
    server = Server(supervisor, path)
    server.start()
    logger.info("listening on %s", path)
    said: bool | None = None
    while not stopping.is_set():
        stirred.wait(0.05 if supervisor.nursery.verdict is None else 1.0)
        stirred.clear()
        try:
            supervisor.tick()
        except (HostError, OSError):
            logger.exception("tick failed")
        if supervisor.nursery.verdict is not None and supervisor.nursery.verdict.ok != said:
            said = supervisor.nursery.verdict.ok
            logger.info(
                "sandbox holds"
                if said
                else f"sandbox_unavailable: {supervisor.nursery.verdict.detail} {supervisor.nursery.verdict.fix}"
            )
    server.close()
    supervisor.stop()
    return 0


def _remove_stale(run_dir: str) -> None:
    """Sockets of a runnerd that was killed: its runners are dead, the kernel saw to that."""
    for name in os.listdir(run_dir):
        if name == "runnerd.sock" or (name.startswith("r") and name.endswith(".sock") and name[1:-5].isdigit()):
            os.unlink(os.path.join(run_dir, name))


if __name__ == "__main__":
    sys.exit(main())
