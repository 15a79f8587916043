"""Where a version came from and what became of it: dataset -> run -> version -> deployment -> predictions.

A graph of plain nodes and edges. Who draws: this module what the registry knows, apps above their own (``registry.uses``). All arrows
go from what was first to what came of it, so there is no way round; ``Graph.ranks`` proves it each time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from django.urls import reverse

from mlops.core.words import number, size
from registry import uses
from registry.models import Dataset, Environment, ModelVersion, Parent, Promotion, SourcePush

GENERATIONS = 5  # of parents; and one of children
MOST_VERSIONS = 30
_TEXT = 60


@dataclass(frozen=True)
class Node:
    """``kind`` is dataset, run, commit, environment, version, form, promotion, deployment or predictions."""

    id: str
    kind: str
    label: str
    detail: str = ""
    url: str = ""
    at: datetime | None = None
    here: bool = False


@dataclass(frozen=True)
class Edge:
    source: str
    target: str
    label: str = ""


@dataclass
class Graph:
    """Nodes by id, in the order they came; of two with one id the first stays."""

    about: ModelVersion
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        self.nodes.setdefault(node.id, node)
        return node.id

    def link(self, source: str, target: str, label: str = "") -> None:
        self.edges.setdefault((source, target), Edge(source, target, label))

    def ranks(self) -> dict[str, int]:
        """Node -> how many steps it is from the start, along the longest way. Raises ValueError when the arrows go round."""
        waits = dict.fromkeys(self.nodes, 0)
        after: dict[str, list[str]] = defaultdict(list)
        for source, target in self.edges:
            waits[target] += 1
            after[source].append(target)
        ready = [node for node, count in waits.items() if count == 0]
        ranks = dict.fromkeys(ready, 0)
        for node in ready:  # grows while it is walked
            for target in after[node]:
                ranks[target] = max(ranks.get(target, 0), ranks[node] + 1)
                waits[target] -= 1
                if waits[target] == 0:
                    ready.append(target)
        if len(ready) != len(self.nodes):
            raise ValueError("A lineage went round in a circle.")
        for node in reversed(ready):  # what nothing leads to stands right before what it leads to
            if after[node] and not any(target == node for _, target in self.edges):
                ranks[node] = min(ranks[target] for target in after[node]) - 1
        return ranks


def of_version(version: ModelVersion) -> Graph:
    """Its parents and children, with data, runs, deployments and predictions of each. About a dozen queries, however many there are."""
    graph = Graph(version)
    family, parents = _family(version)
    for each in family:
        graph.add(_version_node(each, version))
    for line in parents:
        graph.link(_id(line.parent), _id(line.version), "parent")
    own = [each for each in family if each.organization_id == version.organization_id]
    for draw in (_runs, _data, _commits, _copies, _environments, _forms, _promotions):
        draw(graph, own)
    for use in uses.every():
        if use.draw is not None:
            use.draw(graph, own)
    return graph


def version_id(version: ModelVersion) -> str:
    """The id of a version's node, for who links to it."""
    return _id(version)


def _id(version: ModelVersion) -> str:
    return f"version:{version.pk}"


def _family(version: ModelVersion) -> tuple[list[ModelVersion], list[Parent]]:
    rows = Parent.objects.select_related("parent__model__organization", "version__model__organization")
    children = list(rows.filter(parent=version, version__organization=version.organization_id)[:MOST_VERSIONS])
    found, lines = {version.pk: version, **{line.version_id: line.version for line in children}}, children
    generation = [version.pk]
    for _ in range(GENERATIONS):
        above = list(rows.filter(version__in=generation)[:MOST_VERSIONS]) if generation else []
        lines = lines + above
        generation = [line.parent_id for line in above if line.parent_id not in found]
        found |= {line.parent_id: line.parent for line in above if line.parent_id not in found}
        if len(found) >= MOST_VERSIONS:
            break
    return list(found.values()), lines


def _version_node(version: ModelVersion, about: ModelVersion) -> Node:
    if version.organization_id != about.organization_id:  # a copy of what another organisation shared
        return Node(_id(version), "version", "Shared version", "of another organisation")
    where = {"org": version.model.organization.slug, "model": version.model.slug, "number": version.number}
    state = "revoked" if version.revoked_at else version.stage if version.status == "ready" else version.status
    label = f"{version.model.slug} v{version.number}"
    url = reverse("version_detail", kwargs=where)
    return Node(_id(version), "version", label, state, url, version.created_at, here=version == about)


# --- What the registry knows ----------------------------------------------------------------------------------------------


def _runs(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    """The training run its author named: the same words under several versions are one run."""
    for version in versions:
        run = version.claims.get("run")
        if run:
            graph.add(Node(_run_id(run), "run", _run_label(run), _run_detail(run)))
            graph.link(_run_id(run), _id(version))


def _run_id(run: Any) -> str:
    return f"run:{hashlib.sha256(orjson.dumps(run, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]}"


def _run_label(run: Any) -> str:
    named = next((run[key] for key in ("name", "id", "run_id") if run.get(key)), "") if isinstance(run, dict) else run
    return str(named)[:_TEXT] or "Training run"


def _run_detail(run: Any) -> str:
    commit = (
        next((run[key] for key in ("commit", "git_commit", "sha") if run.get(key)), "") if isinstance(run, dict) else ""
    )
    return f"commit {str(commit)[:12]}" if commit else ""


def _made_with(version: ModelVersion) -> str:
    """Where data and code of a version lead to: its run, else the version itself."""
    run = version.claims.get("run")
    return _run_id(run) if run else _id(version)


def _data(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    """The same bytes under several versions are one node."""
    by_id = {version.pk: version for version in versions}
    for row in Dataset.objects.filter(version__in=versions):
        detail = f"{number(row.rows)} rows" if row.rows else size(row.size_bytes)
        node = graph.add(Node(f"dataset:{row.sha256}", "dataset", row.filename[:_TEXT], detail, at=row.created_at))
        version = by_id[row.version_id]
        graph.link(node, _made_with(version) if row.kind == Dataset.Kind.REFERENCE else _id(version), row.kind)


def _commits(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    by_id = {version.pk: version for version in versions}
    for push in SourcePush.objects.select_related("source").filter(version__in=versions).exclude(sha=""):
        label = f"{push.source.repository[:_TEXT]} {push.sha[:7]}"
        node = graph.add(
            Node(f"commit:{push.source_id}:{push.sha}", "commit", label, push.branch[:_TEXT], at=push.created_at)
        )
        graph.link(node, _made_with(by_id[push.version_id]))


def _copies(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    """Versions that were copied from what another organisation shared."""
    for version in versions:
        told = version.claims.get("copied_from")
        if isinstance(told, dict):
            label = f"{told.get('model')} v{told.get('version')}"
            node = graph.add(Node(f"shared:{told.get('sha256')}", "version", label, f"of {told.get('organization')}"))
            graph.link(node, _id(version), "copied from")


def _environments(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    """Dependency sets, shared by whatever runs with them."""
    wanted = {version.environment_id for version in versions if version.environment_id}
    rows = Environment.objects.only("id", "packages", "built_at").in_bulk(wanted) if wanted else {}
    for version in versions:
        if version.environment_id:
            row = rows[version.environment_id]
            count = len(row.packages)
            detail = f"{number(count)} package{'' if count == 1 else 's'}, {row.id[:8]}"
            node = graph.add(Node(f"environment:{row.id}", "environment", "Dependency set", detail, at=row.built_at))
            graph.link(node, _id(version), "runs with")


def _forms(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    for version in versions:
        if version.accelerated_sha256:
            state = "answers" if version.accelerate else "switched off"
            node = graph.add(Node(f"form:{version.accelerated_sha256}", "form", "Accelerated form", f"ONNX, {state}"))
            graph.link(_id(version), node)


def _promotions(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    states = (Promotion.State.APPROVED, Promotion.State.REVOKED)
    rows = Promotion.objects.filter(version__in=versions, state__in=states, envelope__isnull=False)
    for row in rows.prefetch_related("approvals"):
        names = ", ".join(each.name for each in row.approvals.all() if each.verdict == "approved")
        detail = f"by {names}" if names else "nobody had to approve"
        if row.state == Promotion.State.REVOKED:
            detail = "revoked"
        node = Node(
            f"promotion:{row.pk}", "promotion", f"Promoted to {row.to_stage}", detail[:_TEXT], at=row.decided_at
        )
        graph.link(f"version:{row.version_id}", graph.add(node))
