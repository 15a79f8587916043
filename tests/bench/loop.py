"""What a runner spends on a request: processor time of its loop and of each of its parts, without other processes or the scheduler.

``python -m tests.bench.loop FOLDER`` (of one model, as tests.bench.models writes it, where ours is a scikit-learn file) prints microseconds
a frame by rows and frames in flight, then the parts of one row. Processor time, but caches suffer on a busy machine: compare two
versions of the code in turns.
"""

from __future__ import annotations

import hashlib
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from mlops.runtime import formats, wire
from mlops.runtime.batching import Batcher
from mlops.runtime.gauge import Gauge
from mlops.runtime.handlers import Session
from mlops.runtime.loop import _Connection, _Loop
from mlops.runtime.spec import ModelSpec
from tests.bench.models import COLUMNS, Case

LOADS = ((1, 1), (1, 8), (1, 32), (100, 1))  # rows of a request, requests in flight
_ROUNDS, _FRAMES = 15, 600
_HEADER = {"op": "predict", "dialect": "native", "content_type": "application/json", "base_id": f"0198f0{0:026x}"}


def session_of(case: Case, folder: Path) -> Session:
    """The case's model as a runner has it: in its accelerated form, where it has one."""
    inputs = [{"name": name, "type": "double", "nullable": False} for name in COLUMNS]
    output = {"task": "classifier", "classes": [0, 1], "probabilities": True}
    schema = {"kind": "table", "inputs": inputs, "tensor": None, "output": output, "source": "reference"}
    fields: dict[str, Any] = {
        "key": case.name,
        "path": str(case.ours),
        "sha256": "",
        "format": "sklearn",
        "schema": schema,
        "name": case.name,
    }
    native = ModelSpec(**fields, version=1)
    given = orjson.dumps({"columns": dict(zip(COLUMNS, map(list, zip(*case.rows, strict=True)), strict=True))})
    _, _, file = Session(formats.open_spec(native), native).handle({"op": "convert"}, given)
    if file:
        path = folder / "form.onnx"
        path.write_bytes(file)
        fields["accelerated"] = {"path": str(path), "sha256": hashlib.sha256(file).hexdigest()}
    spec = ModelSpec(**fields, version=1)
    return Session(formats.open_spec(spec), spec)


def body_of(case: Case, rows: int) -> bytes:
    return orjson.dumps({"inputs": [dict(zip(COLUMNS, row, strict=True)) for row in case.rows[:rows]]})


def frame_us(session: Session, body: bytes, in_flight: int) -> float:
    """Microseconds a frame of the runner's loop, from the bytes on its socket to the bytes on its socket."""
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with client, server, select.epoll() as poll:
        for sock in (client, server):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        server.setblocking(False)
        loop = _Loop(Batcher(session, Gauge()), client, client)
        loop._poll = poll
        loop._connections[server.fileno()] = _Connection(server)
        poll.register(server, select.EPOLLIN)
        asked = b"".join(wire.pack(number, _HEADER, body) for number in range(in_flight))
        answers = bytearray(4 << 20)  # of its own: memory that comes and goes would cost more than the rest
        turns = max(3, _FRAMES // in_flight // max(1, len(body) // 4096))

        def spent() -> float:
            total = 0
            for _ in range(turns):
                client.sendall(asked)
                begun = time.process_time_ns()
                loop._answer(loop._collect(-1))
                total += time.process_time_ns() - begun
                client.recv_into(answers)
            return total / turns / in_flight / 1e3

        return min(spent() for _ in range(_ROUNDS))


def parts_us(session: Session, body: bytes) -> dict[str, float]:
    """Microseconds of each step of one request."""
    frame, buffer = wire.pack(1, _HEADER, body), wire.FrameBuffer(1 << 26)
    asked = session.decode(_HEADER, body)
    question = asked.question
    outcome = session.predict_outcome(question.inputs, question.count)
    _, header, answer = session.encode(asked, outcome, 0.001)
    steps: dict[str, Callable[[], Any]] = {
        "read the frame": lambda: buffer.feed(frame),
        "parse and check": lambda: session.decode(_HEADER, body),
        "model": lambda: session.predict_outcome(question.inputs, question.count),
        "render": lambda: session.encode(asked, outcome, 0.001),
        "write the frame": lambda: wire.pack(1, header, answer, 200),
    }
    return {name: min(_us(step) for _ in range(_ROUNDS)) for name, step in steps.items()}


def _us(step: Callable[[], Any], times: int = 300) -> float:
    begun = time.process_time_ns()
    for _ in range(times):
        step()
    return (time.process_time_ns() - begun) / times / 1e3


def main() -> None:
    folder = Path(sys.argv[1])
    case = Case(folder.name, folder)
    with tempfile.TemporaryDirectory(prefix="slipway-loop-") as made:
        session = session_of(case, Path(made))
        for rows, in_flight in LOADS:
            print(f"{frame_us(session, body_of(case, rows), in_flight):8.1f}  {rows} rows, {in_flight} in flight")
        for name, us in parts_us(session, body_of(case, 1)).items():
            print(f"{us:8.2f}  {name}")


if __name__ == "__main__":
    main()
