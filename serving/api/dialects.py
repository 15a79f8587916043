"""What the doors of other servers' protocols share: who asks, which organisation, a prediction, and refusals in the dialect's own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import errors, ids, logs, problems
from mlops.core.errors import SlipwayError
from registry.models import ModelVersion
from serving import guests, once, predict
from serving.api.predict import caller_of_api, read_body, read_bytes, respond
from serving.models import Deployment, DeploymentStatus
from serving.predict import Call

log = logs.get(__name__)


class DialectView(APIView):
    """A door where every refusal, ours and Django's, reads as ``dialect`` says it. Checks are made by who is called from here."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    schema = None  # these protocols have documents of their own; docs/dialects.md says what is offered
    dialect = "v2"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Nothing: DRF's negotiation has no part in other people's protocols."""

    def handle_exception(self, error: Exception) -> HttpResponse:
        known = problems.from_exception(error)
        if known is None and isinstance(error, DatabaseError):
            known = errors.NotReady("The database does not answer.", code="database_unavailable", retry_after_s=2)
        if known is None:
            log.error("request_crashed", path=self.request.path, exc_info=error)
            known = SlipwayError("Something broke on our side. It was logged.", code="internal_error", status=500)
        return respond(predict.refuse(known, self.request._request.request_id, self.dialect))

    def predict(self, request: Request, org: str | None, name: str, **more: Any) -> HttpResponse:
        """One prediction."""
        call = self.call(request, org, name, **more)
        return respond(once.answer(call, request.META.get("HTTP_IDEMPOTENCY_KEY", "")))

    def call(
        self,
        request: Request,
        org: str | None,
        name: str,
        *,
        version: str = "",
        read: Callable[[HttpRequest], bytes] = read_body,
        **extras: Any,
    ) -> Call:
        """``read`` gives the body; ``extras`` are the dialect's words for the runner."""
        http, meta = request._request, request.META
        caller = caller_of_api(http)
        return Call(
            caller=caller,
            organization=slug_of(caller, org),
            deployment=checked(name),
            read=lambda: read(http),
            content_type=meta.get("CONTENT_TYPE", ""),
            request_id=http.request_id,
            version=version or http.GET.get("version", "") or meta.get("HTTP_X_SLIPWAY_VERSION", ""),
            dialect=self.dialect,
            extras={**extras, "body_limit": predict.BODY_LIMIT_BYTES},
            sticky=meta.get("HTTP_X_SLIPWAY_STICKY", ""),
        )


def says(value: Any, status: int = 200) -> HttpResponse:
    """JSON with the content type these protocols ask for, exactly."""
    return HttpResponse(orjson.dumps(value), status=status, content_type="application/json")


def posted(request: HttpRequest) -> dict[str, Any]:
    """The body of a POST whose parameters are optional. Raises BadRequest."""
    body = read_bytes(request)
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest("The body is not JSON.") from error
    if not isinstance(found, dict):
        raise errors.BadRequest("The body must be a JSON object.")
    return found


def slug_of(caller: Caller, org: str | None) -> str:
    """The organisation of the path; without one the key's, or the only one of a person. Raises BadRequest."""
    if org is not None:
        return org
    if caller.key is not None:
        return caller.key.organization.slug
    slugs = list(Organization.objects.filter(pk__in=caller.organization_ids).values_list("slug", flat=True)[:2])
    if len(slugs) != 1:
        raise errors.BadRequest("Which organisation?", hint="Send an API key, or put /{organisation} before this path.")
    return slugs[0]


def checked(name: str) -> str:
    """A name that a deployment may have. Raises NotFound."""
    if not ids.SLUG.match(name):
        raise errors.NotFound("There is no model of this name that you may call.")
    return name


def visible(caller: Caller, org: str | None) -> Any:
    """Deployments of the organisation that the caller may call or look at. Raises NotFound for strangers, Forbidden without a right."""
    slug = slug_of(caller, org)
    organization = Organization.objects.filter(slug=slug, pk__in=caller.organization_ids).first()
    if organization is None and (shared := guests.whole(caller, slug)):
        return Deployment.objects.with_routes().filter(organization__slug=slug, model__in=shared)
    if organization is None:
        raise errors.NotFound(f"There is no organisation {slug!r} that you belong to.")
    if not (caller.can("deployment.predict", organization) or caller.can("deployment.view", organization)):
        raise errors.Forbidden(
            "This API key lacks the scope 'predict'.",
            code="scope_missing",
            hint="Make a key with that scope under Settings, API keys.",
        )
    rows = Deployment.objects.with_routes().filter(organization=organization)
    if caller.key is not None and caller.key.deployment:
        rows = rows.filter(name=caller.key.deployment)
    return rows


def deployment(caller: Caller, org: str | None, name: str) -> Deployment:
    """One of those. Raises NotFound."""
    found = visible(caller, org).filter(name=checked(name)).first()
    if found is None:
        raise errors.NotFound(f"There is no model {name!r} that you may call.")
    return found


def live_names(caller: Caller, org: str | None) -> list[str]:
    return list(visible(caller, org).live().values_list("name", flat=True))


def askable(row: Deployment) -> dict[int, ModelVersion]:
    """number -> version, of all that can be asked by number: the live ones, and every other ready one."""
    found = {version.number: version for version in ModelVersion.objects.deployable().filter(model_id=row.model_id)}
    return found if row.status == DeploymentStatus.LIVE else {}


def ready(row: Deployment, version: str = "") -> bool:
    """Whether the deployment answers, or this version of it. Raises NotFound for a version there is not."""
    if row.status != DeploymentStatus.LIVE or row.live_version is None:
        return False
    return not version or version_of(row, version) is not None


def version_of(row: Deployment, number: str) -> ModelVersion:
    """Raises NotFound."""
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else -1
    found = askable(row).get(wanted)
    if found is None:
        raise errors.NotFound(f"{row.name} has no ready version {number[:40]!r}.", code="version_not_found")
    return found
