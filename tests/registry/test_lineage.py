"""Lineage: from the data a version was made with to what it predicted, in the API and on the page, and never in a circle."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from mlops.core.svg import BOX_WIDTH, layered
from registry import lineage
from registry.models import Dataset, ModelVersion, Parent, Source, SourcePush
from tests.registry.conftest import named
from tests.registry.test_promotions import a_version

pytestmark = pytest.mark.django_db
BASE = "/api/v1/acme/models"


def drawn(world: Any, number: int, model: str = "fraud", who: str = "vic") -> dict[str, Any]:
    answer = world.api(who).get(f"{BASE}/{model}/versions/{number}/lineage")
    assert answer.status_code == 200, answer.content
    return answer.json()


def labels(graph: dict[str, Any], kind: str) -> list[str]:
    return sorted(node["label"] for node in graph["nodes"] if node["kind"] == kind)


def ways(graph: dict[str, Any]) -> set[tuple[str, str]]:
    names = {node["id"]: node["label"] for node in graph["nodes"]}
    return {(names[edge["source"]], names[edge["target"]]) for edge in graph["edges"]}


def data(version: ModelVersion, kind: str = "reference", sha256: str = "a" * 64) -> None:
    Dataset.objects.create(
        organization=version.organization, version=version, kind=kind, file_key="k", filename=f"{kind}.csv", format="csv",
        sha256=sha256, size_bytes=10, rows=600,
    )  # fmt: skip


def test_data_run_version_deployment_and_predictions_stand_in_a_row(stage) -> None:
    stage.world.api("dan").post(f"{BASE}/churn/versions/2/promotions", {"to_stage": "production"}, format="json")
    graph = drawn(stage.world, 2, "churn")
    assert labels(graph, "version") == ["churn v2"]
    assert labels(graph, "deployment") == ["churn"]
    (predictions,) = [node for node in graph["nodes"] if node["kind"] == "predictions"]
    assert predictions["label"].endswith(" predictions")
    assert predictions["at"] is not None
    assert labels(graph, "promotion") == ["Promoted to production"]
    assert {("reference.csv", "churn v2"), ("churn v2", "churn"), ("churn", predictions["label"])} <= ways(graph)
    (edge,) = [each for each in graph["edges"] if each["label"] == "100 %"]
    assert edge["source"].startswith("version:")
    before = drawn(stage.world, 1, "churn")
    assert [edge["label"] for edge in before["edges"] if edge["target"].startswith("deployment:")] == ["before"]
    page = stage.world.client("vic").get("/acme/models/churn/versions/2/").content.decode()
    assert predictions["label"] in page
    assert 'class="lineage-list"' in page


def test_the_same_data_and_the_same_run_are_one_node(world) -> None:
    run = {"name": "nightly 7", "commit": "0123456789abcdef"}
    first, second = a_version(world, 1, claims={"run": run}), a_version(world, 2, claims={"run": run})
    for version in (first, second):
        data(version)
    Parent.objects.create(version=second, parent=first)
    graph = drawn(world, 2)
    assert labels(graph, "dataset") == ["reference.csv"]
    assert labels(graph, "run") == ["nightly 7"]
    assert ways(graph) == {
        ("reference.csv", "nightly 7"),
        ("nightly 7", "fraud v1"),
        ("nightly 7", "fraud v2"),
        ("fraud v1", "fraud v2"),
    }
    assert [node["label"] for node in graph["nodes"] if node["here"]] == ["fraud v2"]
    (run_node,) = [node for node in graph["nodes"] if node["kind"] == "run"]
    assert run_node["detail"] == "commit 0123456789ab"


def test_a_commit_a_copy_and_a_faster_form_have_their_nodes(world) -> None:
    told = {"organization": "globex", "model": "base", "version": 3, "sha256": "b" * 64}
    version = a_version(world, claims={"copied_from": told}, accelerated_sha256="c" * 64)
    source = Source.objects.create(
        organization=world.acme, kind="generic", model="fraud", deployment="fraud", clone_url="https://git.test/acme/fraud.git", branch="main"
    )  # fmt: skip
    SourcePush.objects.create(
        organization=world.acme, source=source, sha="d" * 40, ref="refs/heads/main", branch="main", production=True, version=version
    )  # fmt: skip
    graph = drawn(world, 1)
    assert ways(graph) == {
        ("acme/fraud ddddddd", "fraud v1"),
        ("base v3", "fraud v1"),
        ("fraud v1", "Accelerated form"),
    }


def test_a_push_names_what_it_was_made_from(world, tiny, push) -> None:
    push(tiny["iris_joblib"].path)
    made = push(tiny["iris_joblib"].path, metadata={"parents": [{"model": "iris", "version": 1}], "run": "night 2"})
    assert made.status == 202, made.body
    graph = drawn(world, 2, "iris")
    assert ("iris v1", "iris v2") in ways(graph)
    assert ("iris v1", "iris v2") in ways(drawn(world, 1, "iris"))  # children are shown too
    assert labels(graph, "run") == ["night 2"]


@pytest.mark.parametrize(
    ("parents", "code"),
    [
        ([{"model": "fraud", "version": 2}], "parent_not_found"),  # itself
        ([{"model": "fraud", "version": 9}], "parent_not_found"),
        ([{"model": "theirs", "version": 1}], "parent_not_found"),  # globex's
        ([{"model": "fraud"}], "bad_metadata"),
        (["fraud/1"], "bad_metadata"),
        ([{"model": "fraud", "version": True}], "bad_metadata"),
        ([{"model": "fraud", "version": 1}] * 21, "bad_metadata"),
    ],
)
def test_only_earlier_versions_of_ones_own_are_parents(world, parents, code) -> None:
    import json

    from registry.models import RegisteredModel
    from registry.services.projects import default_project

    a_version(world)
    theirs = RegisteredModel.objects.create(
        organization=world.globex, slug="theirs", name="Theirs", project=default_project(world.globex)
    )
    ModelVersion.objects.create(
        organization=world.globex, model=theirs, number=1, file_key="k", filename="f", sha256="0" * 64, size_bytes=1
    )
    answer = world.api("dan").post(
        f"{BASE}/fraud/versions", {"file": named(b"x", "m.joblib"), "metadata": json.dumps({"parents": parents})}, format="multipart"
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.content
    assert ModelVersion.objects.filter(organization=world.acme).count() == 1


def test_the_database_keeps_parents_older_than_their_children(world) -> None:
    first, second = a_version(world, 1), a_version(world, 2)
    for parent, child in ((second, first), (first, first)):
        with pytest.raises(IntegrityError, match="parent_is_older"), transaction.atomic():
            Parent.objects.create(version=child, parent=parent)


def test_a_circle_would_be_told() -> None:
    graph = lineage.Graph(ModelVersion())
    for name in "abc":
        graph.add(lineage.Node(name, "version", name))
    graph.link("a", "b")
    graph.link("b", "c")
    assert graph.ranks() == {"a": 0, "b": 1, "c": 2}
    graph.link("c", "a")
    with pytest.raises(ValueError, match="in a circle"):
        graph.ranks()


def test_boxes_stand_in_columns_and_do_not_cover_each_other() -> None:
    edges = [("data", "v1"), ("run", "v1"), ("v1", "v2"), ("other", "v2"), ("v2", "live"), ("v1", "live")]
    graph = lineage.Graph(ModelVersion())
    for name in dict.fromkeys(name for edge in edges for name in edge):
        graph.add(lineage.Node(name, "version", name))
    for edge in edges:
        graph.link(*edge)
    ranks = graph.ranks()
    assert ranks == {"data": 0, "run": 0, "v1": 1, "other": 1, "v2": 2, "live": 3}  # right before what it leads to
    placed = layered(ranks, edges)
    assert all(placed.corners[target][0] >= placed.corners[source][0] + BOX_WIDTH for source, target in edges)
    assert len(set(placed.corners.values())) == len(ranks)
    assert placed.width == max(x for x, _ in placed.corners.values()) + BOX_WIDTH


def test_another_organisations_parent_is_named_and_not_shown(world) -> None:
    from registry.models import RegisteredModel
    from registry.services.projects import default_project

    theirs = RegisteredModel.objects.create(
        organization=world.globex, slug="secret", name="Secret", project=default_project(world.globex)
    )
    parent = ModelVersion.objects.create(
        organization=world.globex, model=theirs, number=1, file_key="k", filename="f", sha256="0" * 64, size_bytes=1, claims={"run": "hidden"}
    )  # fmt: skip
    Parent.objects.create(version=a_version(world), parent=parent)
    graph = drawn(world, 1)
    assert labels(graph, "version") == ["Shared version", "fraud v1"]
    assert not labels(graph, "run")
    assert "secret" not in str(graph)


def test_a_long_family_costs_as_much_as_a_short_one(world) -> None:
    versions = [a_version(world, 1)]

    def cost() -> int:
        row = ModelVersion.objects.select_related("model__organization").get(pk=versions[-1].pk)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            lineage.of_version(row)
        return len(queries)

    alone = cost()
    for number in range(2, 5):
        child = a_version(world, number)
        data(child, sha256=str(number) * 64)
        for parent in versions:
            Parent.objects.create(version=child, parent=parent)
        versions.append(child)
    assert cost() <= alone + lineage.GENERATIONS
    assert cost() <= 18
    assert len(lineage.of_version(versions[-1]).nodes) == 4 + 3
