"""What became of versions: where they answer or answered, and how much they predicted. Drawn into the registry's lineage graphs."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Max, Sum
from django.urls import reverse

from mlops.core.words import ago_text, number
from registry.lineage import Graph, Node, version_id
from registry.models import ModelVersion
from serving.models import Deployment, Release, Route, TrafficBucket


def draw(graph: Graph, versions: Sequence[ModelVersion]) -> None:
    """Four queries. A deployment under several versions is one node, the predictions of each version there are one of their own."""
    now = {(line.deployment_id, line.version_id): line for line in Route.objects.filter(version__in=versions)}
    before = set(
        Release.objects.filter(version__in=versions).order_by().values_list("deployment_id", "version_id").distinct()
    )
    counted = {
        (row["deployment_id"], row["version_id"]): row
        for row in TrafficBucket.objects.filter(version__in=versions).order_by().values("deployment_id", "version_id")
        .annotate(rows_sum=Sum("rows"), last=Max("at"))
    }  # fmt: skip
    places = {*now, *before, *counted}
    deployments = Deployment.objects.select_related("organization").in_bulk([place for place, _ in places])
    by_id = {version.pk: version for version in versions}
    for place, version in sorted(places):
        row = deployments[place]
        node = graph.add(_deployment_node(row))
        graph.link(version_id(by_id[version]), node, _share(now.get((place, version))))
        told = counted.get((place, version))
        if told is not None and told["rows_sum"]:
            label = f"{number(told['rows_sum'])} prediction{'' if told['rows_sum'] == 1 else 's'}"
            detail = f"v{by_id[version].number}, last {ago_text(told['last'])}"
            graph.link(
                node, graph.add(Node(f"predictions:{place}:{version}", "predictions", label, detail, at=told["last"]))
            )


def _deployment_node(row: Deployment) -> Node:
    url = reverse("deployment_detail", kwargs={"org": row.organization.slug, "name": row.name})
    return Node(f"deployment:{row.pk}", "deployment", row.name, row.get_status_display().lower(), url, row.live_since)


def _share(line: Route | None) -> str:
    if line is None:
        return "before"
    return "shadow" if line.shadow else f"{line.weight} %"
