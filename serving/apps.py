from __future__ import annotations

from typing import Any

from django.apps import AppConfig


class ServingConfig(AppConfig):
    name = "serving"

    def ready(self) -> None:
        from registry import uses
        from registry.services import blobs
        from registry.signals import push_moved, version_ready, version_switched
        from serving.models import LogArchive

        blobs.refer(LogArchive, "key")
        uses.register("serving", uses.Use(_draw, standing=_standing, take_back=_take_back))
        version_ready.connect(_deploy_when_ready, dispatch_uid="serving.deploy_when_ready")
        push_moved.connect(_report_push, dispatch_uid="serving.report_push")
        version_switched.connect(_renew_routes, dispatch_uid="serving.renew_routes")


def _deploy_when_ready(version: Any, **kwargs: Any) -> None:
    """A version pushed with ``deploy`` goes live by itself: as a job, so that warming it holds nobody up."""
    if version.deploy_to:
        from mlops.jobs import queue

        args = {"version_id": version.pk, "deployment": version.deploy_to}
        queue.enqueue(
            "deploy_version",
            organization=version.organization,
            subject=version,
            args=args,
            created_by=version.created_by,
        )


def _renew_routes(version: Any, **kwargs: Any) -> None:
    from serving.services.routes import renew_routes

    renew_routes(version)


def _report_push(push: Any, **kwargs: Any) -> None:
    from serving import push_reports

    push_reports.listen(push)


# Looked up when they are called: a starting process needs none of it.


def _draw(graph: Any, versions: Any) -> None:
    from serving.lineage import draw

    draw(graph, versions)


def _standing(version: Any) -> Any:
    from serving.services.withdrawal import standing

    return standing(version)


def _take_back(version: Any, caller: Any, to: int | None, why: str) -> Any:
    from serving.services.withdrawal import take_back

    return take_back(version, caller, to, why)
