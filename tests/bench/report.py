"""What was measured, as tables and verdicts against the goals. Every section of docs/performance.md is a title and text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.bench import load, peers
from tests.bench.load import Load
from tests.bench.models import MODELS
from tests.bench.race import CLIENTS, LASTING_S, ROWS, Cell, Result
from tests.bench.resources import Resources
from tests.bench.stages import Stages
from tests.bench.tables import table, verdict

MEGABYTE = 1e6
# Ratios of calls per second, ours to theirs: for the best native peer by clients; the forest has its own.
NATIVE_GOALS = {1: 3.0, 8: 5.0, 32: 5.0}
FOREST_GOAL = 50.0
ONNX_GOALS = {1: 1.0, 8: 1.5, 32: 1.5}
MANY_ROWS_GOAL = 3.0
FLOOR_GOAL = 2.0
WEB_READY_S, FIRST_ANSWER_S, RUNNER_BYTES = 1.5, 0.15, 20e6


# -- the race -------------------------------------------------------------------------------------------------------------


def race(result: Result) -> str:
    """The section of the peers: setting, verdicts, then the figures they stand on."""
    models = list(result.loads)
    names = [name for name in ("slipway", *peers.NAMES) if any(name in found for found in result.loads.values())]
    told = (
        "`wrk`"
        if load.generator() == "wrk"
        else "a Python load generator (wrk is not installed: fast servers are held back by it)"
    )
    parts = [
        "## Against the others",
        (
            f"Two worker processes each, each peer in an environment of its own by its documented production command, one model at a time; {told} on the same "
            f"machine; answers checked before timing; all others keep still meanwhile. Medians of {result.rounds} alternating rounds of {result.seconds:g} s. "
            "Ours as `manage.py up` starts it: API key, limits and schema checked, the model in its sandboxed runner, each prediction in the durable log "
            "and shipped to the database meanwhile (what its last turn left is shipped before its next). The peers check no key and keep no log. The floor is a bare ASGI echo on our own web server plus the "
            "converted model called on a ready array: no parsing, no hop, no check, no log."
        ),
        "### Goals",
        goals(result),
    ]
    for rows in ROWS:
        said = _rows(rows)
        parts += [
            f"### {said}: calls per second at 1 / 8 / 32 clients",
            _figures(result, names, models, rows, lambda found: f"{found.rate:,.0f}"),
            f"### {said}: p50 and p99 in ms at 1 / 8 / 32 clients",
            _figures(result, names, models, rows, lambda found: f"{_ms(found.p50)} ({_ms(found.p99)})"),
        ]
    if result.lasting:
        parts.append(_lasting(result, models[0]))
    parts += ["### The model alone, µs a call for 1 row / 100 rows", _bare(result, models)]
    parts += [
        "### Memory of all processes of a server while it serves one model (ours: all four), MB",
        _memories(result, names, models),
    ]
    failed = [
        f"{result.titles[name]}, {MODELS[model].title}, {_rows(rows)}, {_clients(clients)}: {found.errors} failed"
        for model, servers in result.loads.items()
        for name, cells in servers.items()
        for (rows, clients), found in cells.items()
        if found.errors
    ]
    parts.append("\n".join(["Failed calls:", "", *(f"- {line}" for line in failed)]) if failed else "No call failed.")
    if result.skipped:
        parts.append("\n".join(["Not measured:", "", *(f"- {who}: {why}" for who, why in result.skipped.items())]))
    return "\n\n".join(parts) + "\n"


def _figures(result: Result, names: list[str], models: list[str], rows: int, show: Callable[[Load], str]) -> str:
    lines = []
    for name in names:
        cells = [result.loads[model].get(name) for model in models]
        shown = [" / ".join(show(found[rows, clients]) for clients in CLIENTS) if found else "" for found in cells]
        lines.append([result.titles[name], *shown])
    return table(["", *(MODELS[model].title for model in models)], lines)


def _bare(result: Result, models: list[str]) -> str:
    forms = {"native": "its own library", "onnx": "ONNX Runtime"}
    lines = [
        [title, *(f"{result.bare[model][form]['1']:,.1f} / {result.bare[model][form]['100']:,.1f}" for model in models)]
        for form, title in forms.items()
    ]
    return table(["", *(MODELS[model].title for model in models)], lines)


def _ms(us: float) -> str:
    return f"{us / 1000:.2f}" if us < 10_000 else f"{us / 1000:.0f}"


def _memories(result: Result, names: list[str], models: list[str]) -> str:
    lines = []
    for name in names:
        sizes = [result.memory.get(model, {}).get(name) for model in models]
        lines.append([result.titles[name], *(f"{size / MEGABYTE:,.0f}" if size else "" for size in sizes)])
    return table(["", *(MODELS[model].title for model in models)], lines)


def goals(result: Result) -> str:
    """One line a goal: the ratio for each model, and whether it is met; then what is missed, in words."""
    lines: list[list[str]] = []
    missed: list[str] = []

    def judge(title: str, cell: Cell, names: Iterable[str], goal: Callable[[str], float], best: bool = True) -> None:
        shown = []
        for model, servers in result.loads.items():
            others = {name: servers[name][cell].rate for name in names if name in servers}
            if "slipway" not in servers or not others:
                shown.append("not measured")
                continue
            name = max(others, key=lambda each: others[each])
            ratio = servers["slipway"][cell].rate / max(others[name], 1e-9)
            wanted = goal(model)
            met = round(ratio, 2) >= wanted
            who = f" ({result.titles[name]})" if best else ""
            shown.append(f"{ratio:.2f}x of {wanted:g}x {verdict(met)}{who}")
            if not met:
                missed.append(f"{title}: {MODELS[model].title} has {ratio:.2f}x where {wanted:g}x is wanted{who}")
        lines.append([title, *shown])

    for clients in CLIENTS:
        wanted = lambda model, clients=clients: FOREST_GOAL if model == "forest" else NATIVE_GOALS[clients]  # noqa: E731
        judge(f"best native peer, 1 row, {_clients(clients)}", (1, clients), peers.NATIVE, wanted)
    for clients in CLIENTS:
        judge(
            f"FastAPI + ONNX by hand, 1 row, {_clients(clients)}",
            (1, clients),
            ["fastapi_onnx"],
            lambda _, n=clients: ONNX_GOALS[n],
            best=False,
        )
    for clients in CLIENTS:
        judge(
            f"best native peer, 100 rows, {_clients(clients)}", (100, clients), peers.NATIVE, lambda _: MANY_ROWS_GOAL
        )
    for clients in CLIENTS:
        judge(f"floor, 1 row, {_clients(clients)}", (1, clients), ["floor"], lambda _: 1 / FLOOR_GOAL, best=False)
    told = table(["calls per second, ours to theirs", *(MODELS[model].title for model in result.loads)], lines)
    if not missed:
        return f"{told}\n\nEvery goal of this table is met."
    return "\n".join([told, "", f"**{len(missed)} goals are missed:**", "", *(f"- {line}" for line in missed)])


def _lasting(result: Result, model: str) -> str:
    told = "; ".join(
        f"{_clients(clients)}: {found.rate:,.0f} calls per second, p99 {_ms(found.p99)} ms, {waiting / MEGABYTE:,.0f} MB of the log wait for the shipper at the end"
        for clients, (found, waiting) in result.lasting.items()
    )
    return f"Ours for {LASTING_S} s on end, 1 row, {MODELS[model].title}: {told}."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


# -- the rest -------------------------------------------------------------------------------------------------------------


def resources(found: Resources) -> str:
    lines = [
        [
            "web process ready",
            f"{found.web_ready_s:.2f} s",
            f"{WEB_READY_S} s",
            verdict(found.web_ready_s <= WEB_READY_S),
        ]
    ]
    for model, seconds in found.first_answer_s.items():
        met = verdict(seconds <= FIRST_ANSWER_S)
        lines.append(
            [
                f"first answer of a known model, {MODELS[model].title}",
                f"{seconds * 1000:.0f} ms",
                f"{FIRST_ANSWER_S * 1000:.0f} ms",
                met,
            ]
        )
    for model, (own, count) in found.models.items():
        each = own / count
        title = MODELS[model].title if model in MODELS else model
        what = f"memory a runner adds, its model included, {title}"
        lines.append(
            [what, f"{each / MEGABYTE:.0f} MB", f"{RUNNER_BYTES / MEGABYTE:.0f} MB", verdict(each <= RUNNER_BYTES)]
        )
    parts = [[part, str(len(sizes)), f"{sum(sizes) / MEGABYTE:.0f}"] for part, sizes in sorted(found.parts.items())]
    total = sum(map(sum, found.parts.values()))
    return (
        "\n\n".join(
            [
                "## Cold start and memory",
                (
                    "Medians of 5. The first answer is timed over HTTP after the model was unloaded: fork from the warm zygote, sandbox, load, predict. A model is in memory "
                    "once, however many web processes there are."
                ),
                table(["", "measured", "goal", ""], lines),
                f"All of Slipway with {len(found.models)} models loaded, {total / MEGABYTE:.0f} MB (what processes share is counted once):",
                table(["part", "processes", "MB"], parts),
            ]
        )
        + "\n"
    )


def stages(found: dict[int, Stages], before: dict[int, Stages]) -> str:
    names = [*dict.fromkeys(name for each in (found, before) for stages in each.values() for name in stages)]
    names.sort(key=lambda name: name.startswith("whole"))
    head = ["µs a request"]
    columns: list[Stages] = []
    for rows in found:
        for when, each in (("before", before), ("now", found)):
            if rows in each:
                head.append(f"{_rows(rows)}, {when}")
                columns.append(each[rows])
    lines = [[name, *(f"{each[name]:.1f}" if name in each else "" for each in columns)] for name in names]
    return (
        "\n\n".join(
            [
                "## Where the time goes",
                (
                    "Scaler + logistic regression, one client. The server is what a client sees of an echo on the same server; the hop is a question that the runner refuses at "
                    "once; the model's time is the runner's own word; the other stages are the product's code called with the product's rows; the rest is what is left over. "
                    "Before: threads, Django REST framework's view and the native model (see the commit named in `tests/bench/before.json`)."
                ),
                table(head, lines),
            ]
        )
        + "\n"
    )
