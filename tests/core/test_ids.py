"""Identifiers sort by time, and a request's rows get neighbouring ids."""

from __future__ import annotations

from mlops.core import ids


def test_uuid7_has_its_version_and_sorts_by_time() -> None:
    made = [ids.uuid7() for _ in range(200)]
    assert {(i.version, i.variant) for i in made} == {(7, "specified in RFC 4122")}
    assert len(set(made)) == 200
    assert [i.int >> 80 for i in made] == sorted(i.int >> 80 for i in made)


def test_rows_of_a_request_have_ids_of_their_own() -> None:
    base = ids.prediction_base()
    assert base.int % (1 << ids.ROW_BITS) == 0
    rows = [ids.prediction_id(base, row) for row in (0, 1, 100_000)]
    assert len(set(rows)) == 3
    assert {r.version for r in rows} == {7}


def test_slugs() -> None:
    assert ids.to_slug("Ada's Fraud Model", "x") == "adas-fraud-model"
    assert ids.to_slug("///", "model") == "model"
