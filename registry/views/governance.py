"""Promotions, revocation and the rule for them, on a version's and a model's pages; and what waits for somebody's word."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import access
from accounts.caller import caller_of
from accounts.forms import tell
from mlops.core import errors
from mlops.core.svg import BOX_HEIGHT, BOX_WIDTH, layered
from registry import downloads, lineage, lookup, signing, uses
from registry.forms import PolicyForm
from registry.lineage import Graph
from registry.models import ModelVersion, Promotion, Stage
from registry.services import policies, promotions, revocation, stages
from registry.views.models import PAGE, settings_page

_LABEL, _DETAIL = 22, 26  # characters that fit into a box


def of_version(request: HttpRequest, version: ModelVersion) -> dict[str, Any]:
    """What the version page shows of stage, promotions and signature."""
    caller = caller_of(request)
    policy = stages.policy_of(version.model)
    rows = list(version.promotions.prefetch_related("approvals"))
    for row in rows:
        row.why_not = promotions.why_not(row, version, policy, caller) if row.open else ""
        row.needed = policy.approvals(row.to_stage)
        row.mine = caller.person is not None and row.requested_by_id == caller.person.pk
    asked = {row.to_stage for row in rows if row.open}
    above = [stage for stage in Stage if stage.rank > Stage(version.stage).rank and stage not in asked]
    usable = version.status == "ready" and version.revoked_at is None
    return {
        "promotions": rows,
        "policy": policy,
        "signed": signing.state_of(version),
        "standing": uses.standing(version) if version.ended else [],
        "next_stages": above if usable else [],
        "may_approve": caller.can("version.approve", version.organization_id),
        "may_revoke": usable and caller.can("version.revoke", version.organization_id),
    }


def graph_of(graph: Graph) -> dict[str, Any]:
    """A lineage as boxes and lines, and as a list for narrow screens."""
    placed = layered(graph.ranks(), list(graph.edges))
    boxes = [
        {
            "node": node, "x": placed.corners[key][0], "y": placed.corners[key][1],
            "label": _cut(node.label, _LABEL), "detail": _cut(node.detail, _DETAIL),
        }
        for key, node in graph.nodes.items()
    ]  # fmt: skip
    lines = [
        {"path": placed.paths[key], "label": edge.label, "dim": edge.label in ("before", "shadow")}
        for key, edge in graph.edges.items()
    ]
    into: dict[str, list[str]] = {}
    for edge in graph.edges.values():
        told = f" ({edge.label})" if edge.label else ""
        into.setdefault(edge.target, []).append(graph.nodes[edge.source].label + told)
    order = sorted(boxes, key=lambda box: (box["x"], box["y"]))
    return {
        "boxes": boxes,
        "lines": lines,
        "steps": [{"node": box["node"], "into": "; ".join(into.get(box["node"].id, []))} for box in order],
        "width": placed.width + 2,
        "height": placed.height + 2,
        "box_width": BOX_WIDTH,
        "box_height": BOX_HEIGHT,
    }


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _to(version: ModelVersion) -> HttpResponse:
    return redirect("version_detail", org=version.organization.slug, model=version.model.slug, number=version.number)


@login_required
@require_GET
def version_attestation(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    return downloads.attestation(lookup.version_of(request, org, model, number))


@login_required
@require_POST
def version_promote(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = lookup.version_of(request, org, model, number, "model.write")
    row = promotions.request_promotion(
        version, caller_of(request), to=request.POST.get("to_stage", ""), reason=request.POST.get("reason", "")
    )
    done = (
        f"Version {number} is in {row.to_stage}."
        if not row.open
        else "Asked. Whoever may approve finds it among the promotions, beside the models."
    )
    messages.success(request, done)
    return _to(version)


def _promotion(request: HttpRequest, org: str, model: str, number: int, promotion_id: int, action: str) -> Promotion:
    rows = Promotion.objects.select_related("organization", "version__model", "version__organization")
    found = {"organization__slug": org, "version__model__slug": model, "version__number": number, "pk": promotion_id}
    return access.get(caller_of(request), rows, action, **found)


@login_required
@require_POST
def promotion_approve(request: HttpRequest, org: str, model: str, number: int, promotion_id: int) -> HttpResponse:
    row = _promotion(request, org, model, number, promotion_id, "version.approve")
    row = promotions.approve(row, caller_of(request), comment=request.POST.get("comment", ""))
    messages.success(request, f"Version {number} is in {row.to_stage}." if not row.open else "Your approval counts.")
    return _to(row.version)


@login_required
@require_POST
def promotion_reject(request: HttpRequest, org: str, model: str, number: int, promotion_id: int) -> HttpResponse:
    row = _promotion(request, org, model, number, promotion_id, "version.approve")
    row = promotions.reject(row, caller_of(request), comment=request.POST.get("comment", ""))
    messages.success(request, "Rejected.")
    return _to(row.version)


@login_required
@require_POST
def promotion_withdraw(request: HttpRequest, org: str, model: str, number: int, promotion_id: int) -> HttpResponse:
    row = promotions.withdraw(_promotion(request, org, model, number, promotion_id, "model.write"), caller_of(request))
    messages.success(request, "Withdrawn.")
    return _to(row.version)


@login_required
@require_POST
def version_revoke(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    """``back_to``: a version's number or "before" where it is live, else empty."""
    version = lookup.version_of(request, org, model, number, "version.revoke")
    back_to = request.POST.get("back_to", "")
    revocation.revoke_version(
        version,
        caller_of(request),
        reason=request.POST.get("reason", ""),
        rollback_to=int(back_to) if back_to.isascii() and back_to.isdigit() else None,
        force=back_to == "before",
    )
    messages.success(request, f"Version {number} is revoked: it is never loaded again.")
    return _to(version)


@login_required
@require_POST
def model_policy(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = lookup.model_of(request, org, model, "org.manage")
    form = PolicyForm(request.POST)
    if form.is_valid():
        try:
            policies.set_policy(row, caller_of(request), **form.cleaned_data)
        except errors.Invalid as error:
            tell(form, error)
        else:
            messages.success(request, "The rule for promotions is saved.")
            return redirect("model_settings", org=org, model=model)
    return settings_page(request, row, policy_form=form)


@login_required
@require_GET
def promotion_list(request: HttpRequest, org: str) -> HttpResponse:
    """What waits for approval, oldest first, and who may give it."""
    caller = caller_of(request)
    organization = access.organization(caller, org, "model.view")
    rows = Promotion.objects.filter(organization=organization, state=Promotion.State.REQUESTED)
    rows = rows.select_related("version__model__promotion_policy", "version__created_by").prefetch_related("approvals")
    page = Paginator(rows.order_by("pk"), PAGE).get_page(request.GET.get("page"))
    for row in page.object_list:
        policy = stages.known_policy(row.version.model)
        row.why_not = promotions.why_not(row, row.version, policy, caller)
        row.needed = policy.approvals(row.to_stage)
    return render(request, "registry/promotion_list.html", {"organization": organization, "page": page})


def lineage_of(version: ModelVersion) -> dict[str, Any]:
    return {"lineage": graph_of(lineage.of_version(version))}
