"""Who answers how fast: every server takes its turn, round after round, while all others keep still."""

from __future__ import annotations

import http.client
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from serving import prediction_log
from tests.bench import bare, load
from tests.bench.load import Load
from tests.bench.models import Case
from tests.bench.product import Ours
from tests.bench.servers import Server, Skipped

if TYPE_CHECKING:
    from tests.bench.product import Product

CLIENTS = (1, 8, 32)
ROWS = (1, 100)
LASTING_S = 20
_WARM_S, _WARM_CALLS = 1, 20

Cell = tuple[int, int]  # rows, clients


@dataclass
class Result:
    """Everything that was measured: ``loads[model][server][cell]``, ``memory[model][server]``;
    ``skipped[server]`` says why not."""

    rounds: int
    seconds: float
    titles: dict[str, str] = field(default_factory=dict)
    loads: dict[str, dict[str, dict[Cell, Load]]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    bare: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=dict
    )  # model, form, rows: µs of the call alone
    lasting: dict[int, tuple[Load, int]] = field(default_factory=dict)  # clients: ours for long, bytes of log that wait


def run(product: Product, cases: list[Case], names: list[str], rounds: int, seconds: float) -> Result:
    result = Result(rounds, seconds)
    with tempfile.TemporaryDirectory(prefix="slipway-peers-") as folder:
        for case in cases:
            result.bare[case.name] = bare.measure(case)
            _one_model(product, case, names, result, Path(folder))
        result.lasting = {clients: _lasting(product, cases[0], clients, Path(folder)) for clients in CLIENTS[1:]}
    return result


def _lasting(product: Product, case: Case, clients: int, folder: Path) -> tuple[Load, int]:
    """A flood that lasts: what it leaves for the shipper to do counts, too."""
    ours = Ours(product, case)
    ours.thaw()
    found = load.run(ours.target, 1, clients, LASTING_S, folder)
    return found, int(prediction_log.status()["waiting_bytes"])


def _one_model(product: Product, case: Case, names: list[str], result: Result, folder: Path) -> None:
    racers: list[Ours | Server] = [Ours(product, case)]
    measured: dict[str, dict[Cell, list[Load]]] = {}
    gone: list[Server] = []
    product.freeze()
    try:
        for name in names:
            if name == "echo" and result.loads:  # knows no models: once is enough
                continue
            racer = Server(name, case, folder)
            result.titles[name] = racer.title
            racers.append(racer)
            try:
                racer.start()
                racer.ready()
            except Skipped as why:
                print(f"  {case.name}: {name} skipped: {why}", flush=True)
                result.skipped[f"{racer.title}, {case.name}"] = str(why)
                racers.pop().stop()
            else:
                racer.freeze()
        product.thaw()
        racers[0].ready()
        product.freeze()
        for number in range(result.rounds):
            for racer in racers[number % len(racers) :] + racers[: number % len(racers)]:  # nobody is always first
                racer.thaw()
                try:
                    turn = _turn(racer, result.seconds, folder, warm=number == 0)
                except (Skipped, OSError, http.client.HTTPException) as why:
                    if isinstance(racer, Ours):
                        raise
                    result.skipped[f"{racer.title}, {case.name}"] = f"it failed in round {number + 1}: {why}"
                    racer.stop()
                    gone.append(racer)
                    continue
                for cell, found in turn.items():
                    measured.setdefault(racer.name, {}).setdefault(cell, []).append(found)
                result.memory.setdefault(case.name, {})[racer.name] = racer.memory_bytes()
                racer.freeze()
            racers = [racer for racer in racers if racer not in gone]
    finally:
        for racer in racers:
            racer.stop()
        product.thaw()
    result.titles["slipway"] = Ours.title
    result.loads[case.name] = {
        name: {cell: _median(found) for cell, found in cells.items()} for name, cells in measured.items()
    }


def _turn(racer: Ours | Server, seconds: float, folder: Path, *, warm: bool) -> dict[Cell, Load]:
    if warm:
        load.run(racer.target, 1, 8, _WARM_S, folder)
    for _ in range(_WARM_CALLS):
        racer.target.ask(1)
    found = {
        (rows, clients): load.run(racer.target, rows, clients, seconds, folder) for rows in ROWS for clients in CLIENTS
    }
    rates = " ".join(f"{each.rate:.0f}" for each in found.values())
    errors = sum(each.errors for each in found.values())
    print(f"  {racer.case.name:7}{racer.name:14}{rates}{f'   {errors} ERRORS' if errors else ''}", flush=True)
    return found


def _median(found: list[Load]) -> Load:
    return Load(
        median(each.rate for each in found),
        median(each.p50 for each in found),
        median(each.p99 for each in found),
        sum(each.errors for each in found),
    )
