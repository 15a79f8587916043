"""The files of a version's archive for its page: the ones that matter first, and what each is for."""

from __future__ import annotations

from typing import Any

from mlops.runtime.bundle import Found
from registry.models import ModelVersion

_SHOWN = 50
_FIRST = ("model", "code", "dependencies", "test data", "settings", "MLflow's description")


def contents_of(version: ModelVersion) -> dict[str, Any]:
    """{"contents": {"members": [{"name", "size_bytes", "use"}], "more": how many are not shown, "count", "size_bytes"}}, or nothing."""
    told = version.contents
    if not told:
        return {}
    found = Found(
        told["model"],
        told["code"],
        (told["requirements"] or {}).get("name"),
        told["test_data"],
        "MLmodel" if told["mlflow"] else None,
    )
    members = [
        {"name": each["name"], "size_bytes": each["size_bytes"], "use": found.use_of(each["name"])}
        for each in told["members"]
    ]
    members.sort(key=lambda each: (_FIRST.index(each["use"]) if each["use"] in _FIRST else len(_FIRST), each["name"]))
    shown = members[:_SHOWN]
    return {
        "contents": {
            "members": shown,
            "more": len(members) - len(shown),
            "count": len(members),
            "size_bytes": sum(each["size_bytes"] for each in members),
            "mlflow": told["mlflow"],
        }
    }
