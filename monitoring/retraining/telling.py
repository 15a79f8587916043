"""Who hears of a run: channels that listen to retraining, the bell and the mail of who decides. Written with the move itself."""

from __future__ import annotations

from django.urls import reverse

from monitoring import announcing, delivery, links, people
from monitoring.announcing import News
from monitoring.mail_bodies import bodies
from monitoring.models import Notification, Retraining, Severity
from monitoring.notices import list_headers

_State = Retraining.State
_ACTION = "deployment.write"
# Of these states somebody is told by mail and bell; of the others only channels hear.
_ASKING = (_State.PROPOSED, _State.APPROVAL)
_TOLD = (*_ASKING, _State.PROMOTED, _State.REJECTED, _State.FAILED, _State.TIMED_OUT)
_WORSE = (_State.FAILED, _State.TIMED_OUT, _State.REJECTED)


def begun(run: Retraining) -> None:
    _announce(run, "retraining.begun", "A retraining has begun", str(run.reason.get("what") or ""), Severity.INFO, "")


def moved(run: Retraining) -> None:
    """In the move's own transaction."""
    if run.state not in _TOLD:
        return
    title, text = sentence(run), run.steps[-1]["text"] if run.steps else ""
    severity = Severity.WARNING if run.state in (*_WORSE, *_ASKING) else Severity.INFO
    _announce(run, f"retraining.{run.state}", title, text, severity, _ACTION)
    if run.state in _ASKING or run.state in (_State.FAILED, _State.TIMED_OUT):
        _mail(run, title, text, f"{run.state}")


def paused(run: Retraining, reason: str) -> None:
    """The policy has stopped itself."""
    title = "Retraining has stopped itself"
    _announce(run, "retraining.paused", title, reason, Severity.WARNING, _ACTION)
    _mail(run, title, reason, "paused")


def sentence(run: Retraining) -> str:
    """The run in a few words: "Version 4, trained again, waits for your decision"."""
    number = f"Version {run.candidate.number}, trained again," if run.candidate is not None else "The retrained version"
    return {
        _State.PROPOSED: f"{number} waits for a decision",
        _State.APPROVAL: f"{number} waits for approval",
        _State.ROLLING_OUT: f"{number} is being rolled out",
        _State.PROMOTED: f"{number} was promoted",
        _State.REJECTED: f"{number} was rejected",
        _State.FAILED: "A retraining failed",
        _State.TIMED_OUT: "A retraining timed out",
        _State.CANCELLED: "A retraining was cancelled",
    }.get(_State(run.state), run.get_state_display())


def path_of(run: Retraining) -> str:
    where = {"org": run.organization.slug, "name": run.deployment.name, "retraining_id": run.pk}
    return reverse("retraining_detail", kwargs=where)


def _announce(run: Retraining, kind: str, title: str, text: str, severity: str, needs: str) -> None:
    candidate = run.candidate.number if run.candidate is not None else None
    news = News(
        type=kind,
        key=f"retraining:{run.pk}:{kind}",
        title=f"{run.deployment.name}: {title}",
        text=text,
        data={
            "organization": run.organization.slug,
            "deployment": run.deployment.name,
            "retraining": run.pk,
            "state": run.state,
            "champion": run.champion.number,
            "candidate": candidate,
            "reason": str(run.reason.get("what") or ""),
            "text": text,
            "links": {
                "page": links.page(
                    "retraining_detail", org=run.organization.slug, name=run.deployment.name, retraining_id=run.pk
                )
            },
        },
        severity=severity,
        path=path_of(run),
        deployment=run.deployment,
    )
    if announcing.announce(run.organization, news, needs=needs):
        delivery.deliver_soon()


def _mail(run: Retraining, title: str, text: str, what: str) -> None:
    org = run.organization
    page = links.page("retraining_detail", org=org.slug, name=run.deployment.name, retraining_id=run.pk)
    checks = (run.figures.get("checks") or []) if run.state in _ASKING else []
    context = {"run": run, "title": title, "text": text, "page": page, "checks": checks, "asking": run.state in _ASKING}
    rows = []
    for user in people.alert_readers(org):
        leave = links.unsubscribe(org.slug, org.pk, user.pk, "alerts")
        rows.append(
            Notification(
                organization=org,
                user=user,
                recipient=user.email,
                type=f"retraining.{what}",
                dedupe_key=f"retraining:{run.pk}:{what}:{user.pk}",
                subject=" ".join(f"[{org.slug}] {run.deployment.name}: {title}".split())[:250],
                **bodies("retraining", {**context, "unsubscribe_url": leave}),
                headers=list_headers(leave, f"retraining-{run.pk}"),
            )
        )
    if Notification.objects.bulk_create(rows, ignore_conflicts=True):
        delivery.deliver_soon()
