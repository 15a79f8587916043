"""A folder that MLflow wrote: its description, example and requirements, as the contents of a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from mlops.runtime import mlmodel
from mlops.runtime.bundle import MLMODEL, Found
from mlops.runtime.mlmodel import MLmodel
from registry import folder_samples
from registry.checking import Said, Validation

_PYTHON_FILES = ("python_env.yaml", "conda.yaml")


def described(root: Path, found: Found, names: list[str]) -> tuple[Found, MLmodel | None]:
    """What MLmodel says, and ``found`` with the model it names. A predict.py beside it goes before it. Raises BundleError."""
    if found.mlmodel is None or found.code is not None:
        return found, None
    told = mlmodel.read(_start(root / MLMODEL), names)
    return replace(found, model=found.model or told.model), told


def facts(told: MLmodel | None) -> dict[str, Any] | None:
    """What is kept of it."""
    if told is None:
        return None
    return {"flavor": told.flavor, "version": told.version, "signature": told.signature, "schema": told.schema}


def python_of(root: Path, names: list[str]) -> str | None:
    """The Python version it was saved with. Raises BundleError for a file that is no YAML."""
    versions = (mlmodel.python_of(_start(root / name), name) for name in _PYTHON_FILES if name in names)
    return next((version for version in versions if version), None)


def requirements_of(root: Path, names: list[str]) -> dict[str, str] | None:
    """What conda.yaml wants of pip, where there is no requirements.txt."""
    if "conda.yaml" not in names:
        return None
    text = mlmodel.pip_of(_start(root / "conda.yaml"), "conda.yaml")
    return {"name": "conda.yaml", "text": text} if text else None


def keep_example(validation: Validation, root: Path, names: list[str]) -> list[Said]:
    """Its example as the sample, unless there is one."""
    name = mlmodel.example(names)
    if name is None or folder_samples.has_one(validation) or (root / name).stat().st_size > mlmodel.MAX_EXAMPLE_BYTES:
        return []
    rows = mlmodel.rows_of_example((root / name).read_bytes())
    if rows is None:
        return []
    folder_samples.store(validation, orjson.dumps({"inputs": rows}), name)
    return [Said(f"{name} is its sample.")]


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(mlmodel.MAX_BYTES + 1)
