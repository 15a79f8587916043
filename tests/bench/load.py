"""Load: wrk where it is installed, else a generator in Python (slower than the fastest servers: the report says so)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import Target

_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
{headers}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{{"requests": %d, "us": %d, "p50": %d, "p99": %d, "errors": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run measured; latencies in microseconds."""

    rate: float
    p50: float
    p99: float
    errors: int


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "python"


def run(target: Target, rows: int, clients: int, seconds: float, folder: Path) -> Load:
    """``clients`` connections, each asking again as soon as it is answered."""
    if generator() == "python":
        with ThreadPoolExecutor(1) as thread:  # its own loop, wherever it is called: a browser's driver has one, too
            return thread.submit(lambda: asyncio.run(_python(target, rows, clients, seconds))).result()
    body, script = folder / "body.json", folder / "load.lua"
    body.write_bytes(target.bodies[rows])
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in target.headers.items())
    script.write_text(_SCRIPT.format(body=body, headers=headers), encoding="utf-8")
    command = [
        "wrk",
        f"-t{1 if clients == 1 else 2}",
        f"-c{clients}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "10s",
    ]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{target.port}{target.path}"],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    if done.returncode != 0:  # it does not take connections any more
        return Load(0, 0, 0, 1)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    silent = 0 if found["requests"] else clients  # connected, and never answered
    return Load(found["requests"] / (found["us"] / 1e6), found["p50"], found["p99"], found["errors"] + silent)


async def _python(target: Target, rows: int, clients: int, seconds: float) -> Load:
    head = [f"POST {target.path} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", "Content-Type: application/json"]
    head += [f"{name}: {value}" for name, value in target.headers.items()]
    request = "\r\n".join([*head, f"Content-Length: {len(target.bodies[rows])}", "", ""]).encode() + target.bodies[rows]
    times: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal errors
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            while (started := time.perf_counter()) < end:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                if length:
                    await reader.readexactly(int(length))
                else:  # chunked
                    await reader.readuntil(b"\r\n0\r\n\r\n")
                errors += b" 200 " not in head.partition(b"\r\n")[0]
                times.append(time.perf_counter() - started)
                if b"connection: close" in head:
                    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            errors += 1

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - begun
    times.sort()
    share = lambda part: times[min(len(times) - 1, int(len(times) * part))] * 1e6 if times else 0.0  # noqa: E731
    return Load(len(times) / took, share(0.5), share(0.99), errors)
