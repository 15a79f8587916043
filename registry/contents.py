"""What a pushed archive holds: unpacked in the sandbox, each member named and hashed, and which of them is the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlops.core.words import size
from mlops.runtime import bundle, inspect
from mlops.runtime.bundle import BundleError, Found
from mlops.runtime.formats import FORMATS
from registry import folder_samples, folder_settings, mlflow_folders
from registry.checking import Level, Said, Validation, refuse
from registry.folder_settings import FolderSettings
from registry.services import artifacts, trees

_LAST_STEPS_S = 10.0  # of the validation, kept for what comes after unpacking
_MAX_TEXT_BYTES = 256 << 10  # of requirements.txt


def check_contents(validation: Validation) -> list[Said]:
    """Raises Invalid when it is an archive that nobody should open, or one without a model."""
    if validation.version.format != "bundle":
        return [Said("A single file.")]
    unpacked = _unpacked(validation)
    root = artifacts.tree_of(validation.version)
    names = [member["name"] for member in unpacked.members]
    given = folder_settings.parse(_read(root, bundle.CONFIG)) if bundle.CONFIG in names else FolderSettings()
    try:
        found = bundle.find(names, model=given.model, code=given.code, test_data=given.sample)
        found, told = mlflow_folders.described(root, found, names)
        python = mlflow_folders.python_of(root, names) if found.mlmodel else None
        requirements = _requirements(root, found) or (
            mlflow_folders.requirements_of(root, names) if found.mlmodel else None
        )
    except BundleError as error:
        refuse(error.code, error.message, error.hint)
    said = [Said(_counted(unpacked))]
    form, inner = _format_of(root, found)
    validation.save(
        format=form,
        contents={
            "members": unpacked.members,
            "model": found.model,
            "code": found.code,
            "requirements": requirements,
            "python": python,
            "test_data": found.test_data,
            "config": given.told or None,
            "mlflow": mlflow_folders.facts(told),
        },
    )
    said += inner
    _take_over(validation, given)
    said += folder_samples.keep(validation, root, found) or (
        mlflow_folders.keep_example(validation, root, names) if found.mlmodel else []
    )
    if unpacked.skipped:
        said.append(Said(_left_out(unpacked.skipped), Level.INFO))
    return said


def _unpacked(validation: Validation) -> trees.Unpacked:
    seconds = validation.remaining_s() - _LAST_STEPS_S
    found = artifacts.unpack(validation.version, validation.host, validation.key("unpack"), max(1.0, seconds))
    validation.run.beat()
    return found


def _read(root: Path, name: str) -> bytes:
    """The start of a text file of the tree: one byte more than any of them may have."""
    with (root / name).open("rb") as file:
        return file.read(_MAX_TEXT_BYTES + 1)


def _format_of(root: Path, found: Found) -> tuple[str, list[Said]]:
    """The format that answers, and what was seen from outside of the file that is opened."""
    if found.code is not None:
        said = [Said(f"{found.code} answers" + (f" with {found.model}." if found.model else "."))]
        return "python", said + (_advice(_look(root, found.model), found.model) if found.model else [])
    assert found.model is not None  # find() refuses a folder with neither
    report = _look(root, found.model)
    for item in report.findings:
        if item["level"] == "error":
            refuse(
                "not_a_model" if report.format is None else "broken_file",
                f"{found.model}: {item['message']}",
                item["hint"],
            )
    if report.format is None or report.format == "bundle":
        refuse(
            "not_a_model",
            f"{found.model} is an archive inside the archive.",
            "Put its files into the folder, and push that.",
        )
    return report.format, [
        Said(f"The model is {found.model}: {FORMATS[report.format].title}."),
        *_advice(report, found.model),
    ]


def _look(root: Path, name: str) -> inspect.Report:
    return inspect.look(root / name, os.path.basename(name))


def _advice(report: inspect.Report, name: str) -> list[Said]:
    return [
        Said(f"{name}: {item['message']}", item["level"], item["hint"])
        for item in report.findings
        if item["level"] in ("warning", "info")
    ]


def _requirements(root: Path, found: Found) -> dict[str, str] | None:
    if found.requirements is None:
        return None
    raw = _read(root, found.requirements)
    if len(raw) > _MAX_TEXT_BYTES:
        refuse(
            "requirements_too_large",
            f"{found.requirements} is larger than {_MAX_TEXT_BYTES >> 10} kB.",
            "List only what the model needs.",
        )
    try:
        return {"name": found.requirements, "text": raw.decode("utf-8-sig")}
    except UnicodeDecodeError:
        refuse(
            "requirements_not_text",
            f"{found.requirements} is not UTF-8 text.",
            "Save it as UTF-8: pip freeze > requirements.txt",
        )


def _take_over(validation: Validation, given: FolderSettings) -> None:
    """What the folder says about the version, where the push said nothing."""
    version = validation.version
    facts: dict[str, Any] = {
        "description": version.description or given.description,
        "tags": {**given.tags, **version.tags},
        "claims": {**given.claims, **version.claims},
        "given_schema": version.given_schema or given.schema,
    }
    changed = {name: value for name, value in facts.items() if value != getattr(version, name)}
    if changed:
        validation.save(**changed)


def _counted(unpacked: trees.Unpacked) -> str:
    count = len(unpacked.members)
    total = sum(member["size_bytes"] for member in unpacked.members)
    return f"{count} file{'' if count == 1 else 's'}, {size(total)}, unpacked in the sandbox."


def _left_out(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"Left out, for no model needs it: {shown}."
