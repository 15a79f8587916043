"""Cold starts and memory of the whole product."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import psutil

from mlops.runtime.host import get_host
from mlops.supervise import answers
from tests.bench.product import Ours
from tests.bench.servers import free_ports, memory

if TYPE_CHECKING:
    from tests.bench.models import Case
    from tests.bench.product import Product

_TRIES = 5


@dataclass
class Resources:
    """Seconds and bytes."""

    web_ready_s: float = 0.0
    first_answer_s: dict[str, float] = field(default_factory=dict)
    models: dict[str, tuple[int, int]] = field(default_factory=dict)  # model: bytes of its own, processes
    parts: dict[str, list[int]] = field(default_factory=dict)  # part: proportional share of each of its processes


def measure(product: Product, cases: list[Case]) -> Resources:
    found = Resources(web_ready_s=median(_web_ready(product) for _ in range(_TRIES)))
    for case in cases:
        found.first_answer_s[case.name] = median(_first_answer(product, case) for _ in range(_TRIES))
    for case in cases:
        Ours(product, case).ready()
    for entry in get_host().status()["entries"]:
        runners = [psutil.Process(each["pid"]) for each in entry.get("runners") or [entry]]
        own = sum(each.memory_full_info().uss for each in runners)
        found.models[_name_of(entry["key"], cases, product)] = own, len(runners)
    told = get_host().status()["zygote"]
    zygotes = {told["template_pid"], *told["pids"]}
    for each in product.members():
        found.parts.setdefault(_part(each, zygotes), []).append(memory(each))
    return found


def _web_ready(product: Product) -> float:
    """From the start of a web process beside the others until it answers."""
    (port,) = free_ports(1)
    environment = {**product.environment, "SLIPWAY_BIND": f"127.0.0.1:{port}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as in an installation and in the image
    command = [sys.executable, "-m", "gunicorn", "-c", "mlops/gunicorn.conf.py"]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    try:
        while not answers(f"http://127.0.0.1:{port}"):
            if process.poll() is not None or time.perf_counter() - started > 30:
                raise RuntimeError("A web process did not start.")
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(40)


def _first_answer(product: Product, case: Case) -> float:
    """The model is unloaded; then somebody asks."""
    ours, host = Ours(product, case), get_host()
    ours.target.ask(1)
    for entry in host.status()["entries"]:
        if _name_of(entry["key"], [case], product) == case.name:
            host.unload(entry["key"])
    time.sleep(0.3)  # the runner has ended
    started = time.perf_counter()
    ours.target.ask(1)
    return time.perf_counter() - started


def _name_of(key: str, cases: list[Case], product: Product) -> str:
    """``v-<version>-<hash>`` is the key of a version's model."""
    from registry.models import ModelVersion

    if key.startswith("v-") and (row := ModelVersion.objects.filter(pk=key.split("-")[1]).first()):
        return row.model.slug
    return key


def _part(process: psutil.Process, zygotes: set[int]) -> str:
    above = [" ".join(_words(each)) for each in process.parents()[:3]]
    words = " ".join(_words(process))
    if "mlops.runtime.runnerd" in words:
        return "runner host"
    if process.pid in zygotes:
        return "template and zygotes"
    if any("mlops.runtime.runnerd" in each for each in above):
        return "runners"
    if "gunicorn" in words:
        return "web workers" if "worker" in words else "web master"
    return "supervisor" if "manage.py up" in words else "queue: jobs, schedules, log shipping"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
