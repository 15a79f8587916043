"""The dependency sets on the page of the model memory: an organisation sees its own."""

from __future__ import annotations

from serving.views.runtime import _sets


def test_an_organisation_is_told_of_its_own_sets_only() -> None:
    def held(owner: str) -> dict:
        return {"id": "a" * 64, "owner": owner, "libraries": {"sklearn": "1.3.2", "numpy": "1.26.4"}, "failed": {}}

    rows = _sets({"sets": {"zygotes": [held("7"), held("70"), held("8")]}}, 7)
    assert [row["owner"] for row in rows] == ["7"]
    assert rows[0]["libraries"] == "sklearn 1.3.2, numpy 1.26.4"
    assert _sets({"mode": "in_process"}, 7) == []
