"""Another version against the live one, over what callers asked: start it, watch it, read it, promote or try it on some callers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts import access
from accounts.caller import caller_of
from mlops.core.errors import SlipwayError
from registry.models import ModelVersion
from serving import comparison_words
from serving.forms import RolloutForm, deployable
from serving.models import Comparison, Deployment
from serving.services import comparisons, rollouts
from serving.views.deployments import get_deployment

SHOWN = 50


class CompareForm(forms.Form):
    version = forms.ChoiceField(label="Candidate")
    last = forms.IntegerField(
        label="Logged rows",
        min_value=1,
        max_value=comparisons.MOST,
        initial=comparisons.LAST,
        help_text="The latest ones; 10,000 at most.",
    )

    def __init__(self, *args: Any, candidates: list[ModelVersion], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["version"].choices = [(each.number, f"Version {each.number}") for each in candidates]


@login_required
@require_http_methods(["GET", "POST"])
def deployment_compare(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "logs.view" if request.method == "GET" else "deployment.write")
    live = row.live_version
    candidates = [each for each in deployable(row.organization, row.model.slug) if each != live]
    form = CompareForm(request.POST or None, candidates=candidates, initial={"version": request.GET.get("version")})
    if form.is_valid():
        version = next(each for each in candidates if str(each.number) == form.cleaned_data["version"])
        try:
            made = comparisons.start(
                deployment=row, candidate=version, last=form.cleaned_data["last"], caller=caller_of(request)
            )
            return redirect("deployment_comparison", org=org, name=name, comparison_id=made.pk)
        except SlipwayError as error:
            form.add_error(None, f"{error.detail} {error.hint}".strip())
    rows = Comparison.objects.filter(deployment=row).select_related("champion", "candidate", "deployment")[:SHOWN]
    context = {
        "deployment": row,
        "form": form,
        "candidates": candidates,
        "may_write": caller_of(request).can("deployment.write", row.organization_id),
        "comparisons": [
            {"row": each, "sentence": comparison_words.sentence(each) or (each.error or {}).get("detail", "")}
            for each in rows
        ],
    }
    return render(request, "serving/deployment_compare.html", context, status=422 if form.errors else 200)


def _canary(row: Deployment, candidate: ModelVersion) -> RolloutForm | None:
    """The guarded rollout of the Routing page as it stands there, for this version; None where it could not begin."""
    latest = rollouts.latest(row)
    if row.live_version is None or (latest is not None and latest.open):
        return None
    return RolloutForm(versions=[candidate], initial={"version": candidate.pk}, auto_id=False)


@login_required
@require_GET
def deployment_comparison(request: HttpRequest, org: str, name: str, comparison_id: int) -> HttpResponse:
    rows = Comparison.objects.select_related("champion", "candidate", "job", "deployment").filter(deployment__name=name)
    found = access.get(caller_of(request), rows, "logs.view", organization__slug=org, pk=comparison_id)
    row = Deployment.objects.with_routes().get(pk=found.deployment_id)
    may_promote = (
        caller_of(request).can("deployment.write", row.organization_id) and row.live_version != found.candidate
    )
    context = {
        "deployment": row,
        "comparison": found,
        "sentence": comparison_words.sentence(found),
        "table": comparison_words.table(found),
        "differences": (found.figures or {}).get("schema") or [],
        "reasons": comparison_words.reasons(found),
        "examples": comparison_words.examples(found),
        "may_promote": may_promote,
        "canary": _canary(row, found.candidate) if may_promote else None,
        "moved_on": row.live_version is not None and row.live_version not in (found.champion, found.candidate),
    }
    return render(
        request, "serving/_comparison.html" if request.htmx else "serving/deployment_comparison.html", context
    )
