"""What a version's code needs beside itself: will it run here, and with which libraries?"""

from __future__ import annotations

import functools
import importlib.metadata
import time
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import canonicalize_name

from mlops.core.words import seconds, size
from mlops.runtime import inspect
from mlops.runtime.environments import requirements, skew
from mlops.runtime.environments.installers import pins
from mlops.runtime.environments.requirements import Requirements
from mlops.runtime.environments.skew import Line, Provided
from registry.checking import Level, Said, Validation, refuse
from registry.models import Environment
from registry.services import artifacts, environments

_CODE_BYTES = 1 << 20
_LEVELS = {"ok": Level.OK, "warning": Level.WARNING, "error": Level.ERROR}


def check_dependencies(validation: Validation) -> list[Said]:
    """Which libraries it runs with, and whether they are those it wants. Raises Invalid when one of them cannot be had."""
    wanted, said = _wanted(validation)
    environment = None
    if wanted is not None and wanted.wanted:
        met = environments.missing(wanted)
        if met:
            environment = _built(validation, wanted)
            said.insert(0, _with_set(environment))
        else:
            said.insert(0, Said(f"Slipway's own libraries meet its requirements: {_shown(wanted)}."))
    report = _report(validation, environment)
    validation.save(compatibility=skew.as_json(report))
    for line in report:
        if line.level == "error":
            refuse("library_missing", line.message, line.hint)
    said += [Said(line.message, _LEVELS[line.level], line.hint) for line in report if line.level != "ok"]
    return said or [Said("It runs with Slipway's own libraries.")]


# -- which libraries ----------------------------------------------------------------------------------------------------
def _wanted(validation: Validation) -> tuple[Requirements | None, list[Said]]:
    """Its requirements, read, and what to say of them. Raises Invalid for a line that is not taken."""
    contents = validation.version.contents or {}
    given = contents.get("requirements")
    if not given:
        return None, []
    text, left_out = given["text"], ()
    if contents.get("mlflow"):
        text, left_out = skew.of_mlflow(text)
    try:
        found = requirements.parse(text)
    except requirements.RequirementsError as error:
        refuse(error.code, f"{given['name']}: {error.message}", error.hint)
    said = []
    if found.left_out:
        said.append(Said(f"Not for this machine, by their markers: {', '.join(found.left_out[:5])}.", Level.INFO))
    if left_out:
        said.append(Said(f"{', '.join(left_out)} is not needed to predict and is left out.", Level.INFO))
    return found, said


def _built(validation: Validation, wanted: Requirements) -> Environment:
    """Its set, built if need be, in a time of its own: the rest of the validation has as much as before."""
    environment = environments.environment_for(wanted)
    validation.save(environment=environment)  # from here on its page shows the build
    started = time.monotonic()

    def tell(lines: list[str]) -> None:
        validation.run.beat()
        if lines:
            validation.run.log("\n".join(lines))

    try:
        return environments.ensure(environment, tell)
    finally:
        validation.deadline += time.monotonic() - started


def _with_set(environment: Environment) -> Said:
    count = len(environment.packages)
    took = f", built in {seconds(environment.seconds)}" if environment.seconds else ""
    return Said(
        f"It runs with its own {count} package{'' if count == 1 else 's'}, {size(environment.size_bytes)}{took}."
    )


def _shown(wanted: Requirements) -> str:
    found = [f"{one.name} {environments.installed(one.name) or ''}".strip() for one in wanted.wanted]
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


# -- will it run here ---------------------------------------------------------------------------------------------------
def _report(validation: Validation, environment: Environment | None) -> list[Line]:
    version, contents = validation.version, validation.version.contents or {}
    path, code, names = _places(validation)
    provided = _provided(environment, names)
    lines: list[Line] = []
    if told := skew.python_line(_python_of(contents)):
        lines.append(told)
    imports: list[skew.Import] = []
    if path is not None:
        form = version.format if code is None else (inspect.look(path).format or "")
        report = validation.report if not contents else inspect.look(path)
        for name, needs in skew.saved_with(path, form).items():
            lines.append(skew.compare(name, needs, provided.version(name), own_set=provided.own_set))
        if form == "sklearn":
            imports += skew.in_pickle(report.imports, path.name if contents else version.filename)
    if code is not None:
        source = code.read_bytes()[:_CODE_BYTES].decode("utf-8", "replace")
        imports += skew.in_code(source, code.name)
    return lines + skew.import_lines(imports, provided)


def _places(validation: Validation) -> tuple[Path | None, Path | None, list[str]]:
    """(the model's file, its code, the names of all files beside it)."""
    contents = validation.version.contents
    if not contents:
        return validation.path, None, []
    root = artifacts.tree_of(validation.version)
    model, code = contents.get("model"), contents.get("code")
    names = [str(member["name"]) for member in contents.get("members") or ()]
    return (root / model if model else None), (root / code if code else None), names


def _python_of(contents: dict[str, Any]) -> str:
    return str(contents.get("python") or (contents.get("mlflow") or {}).get("python") or "")


def _provided(environment: Environment | None, names: list[str]) -> Provided:
    """What it will find: its own folder, then its set, then ours."""
    beside = {PurePosixPath(name).parts[0].removesuffix(".py") for name in names if name.endswith((".py", ".so"))}
    if environment is None:
        return Provided(environments.installed, frozenset(beside) | _our_modules())
    locked = {canonicalize_name(name): version for name, version in pins(environment.lock)}
    brought = {entry.name.partition(".")[0] for entry in environments.site_of(environment).iterdir()}
    return Provided(
        lambda name: locked.get(canonicalize_name(name)) or environments.installed(name),
        frozenset(beside | brought) | _our_modules(),
        own_set=True,
    )


@functools.cache
def _our_modules() -> frozenset[str]:
    return frozenset(importlib.metadata.packages_distributions())
