"""The user's own trainer: called by a signed webhook, with two tokens that open nothing but this run.

Tokens are signed, not stored. They are good while the run waits for its candidate and for nothing else: one fetches the rows of its
window, the other pushes one version to its model.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from django.conf import settings
from django.core import signing
from django.urls import reverse

from mlops.core import clock, errors
from monitoring import links, webhooks
from monitoring.channels import Gone, NotTaken
from monitoring.channels.answers import judge, not_reached
from monitoring.models import Retraining, RetrainingPolicy
from monitoring.retraining import rows, runs
from monitoring.retraining.runs import State

_SALT, _PREFIX = "monitoring.retraining", "srt_"
EVENT = "retraining.requested"
# The same pauses as for messages to channels.
PAUSES = tuple(timedelta(seconds=each) for each in (5, 300, 1_800, 7_200, 18_000, 36_000))
Purpose = Literal["data", "push"]


def token(run: Retraining, purpose: Purpose) -> str:
    return _PREFIX + signing.dumps({"r": run.pk, "p": purpose}, salt=_SALT, compress=True)


def run_of(presented: str, purpose: Purpose) -> Retraining:
    """The run that a token opens. Raises Unauthenticated: damaged, of another purpose, or of a run that does not wait (any more)."""
    try:
        found = signing.loads(presented.removeprefix(_PREFIX), salt=_SALT) if presented.startswith(_PREFIX) else {}
        known = found.get("p") == purpose and Retraining.objects.filter(pk=found["r"]).exists()
    except (signing.BadSignature, KeyError, TypeError, ValueError, AttributeError):
        known = False
    if not known:
        raise errors.Unauthenticated(
            "This token is not known here.",
            code="invalid_token",
            hint="Use the token of the webhook's message, as Authorization: Bearer srt_...",
        )
    run = runs.read(found["r"])
    called = run.state == State.QUEUED and run.attempts > 0  # its answer is on its way while the trainer begins
    if run.terms["way"] != RetrainingPolicy.Way.WEBHOOK or not (run.state == State.WAITING or called):
        raise errors.Unauthenticated(
            f"Retraining {run.pk} is {run.get_state_display().lower()}: its tokens are good no longer.",
            code="token_expired",
            hint="They open the data, and take a candidate, while it waits for one.",
        )
    return run


def call(run: Retraining) -> None:
    """One try. Moves the run on when the webhook takes it (2xx), puts the next try off, or fails the run after the last."""
    policy = RetrainingPolicy.objects.get(deployment=run.deployment_id)
    run = runs.keep(run, attempts=run.attempts + 1)  # before the call: a worker that dies in it has used a try up
    until = clock.now() + timedelta(days=run.terms["candidate_days"])
    try:
        try:
            reply = webhooks.call_signed(
                run.terms["url"],
                policy.secret,
                EVENT,
                payload(run, until),
                message_id=f"retraining_{run.pk}",
                at=run.created_at,
            )
        except errors.SlipwayError as error:
            raise not_reached(error) from error
        judge(reply, "The webhook")
    except NotTaken as error:
        _not_taken(run, error)
        return
    said = f"The webhook answered {reply.status}. A candidate is waited for until {until:%Y-%m-%d %H:%M} UTC."
    runs.move(run, State.WAITING, said, due_at=until)


def _not_taken(run: Retraining, error: NotTaken) -> None:
    if isinstance(error, Gone) or run.attempts > len(PAUSES):
        runs.move(
            run, State.FAILED, f"The webhook did not take it, in {run.attempts} tries: {error}", error=_told(error)
        )
        return
    pause = PAUSES[run.attempts - 1]
    if error.wait_s is not None:
        pause = max(pause, timedelta(seconds=error.wait_s))
    runs.later(run, pause, error=_told(error), due_at=clock.now() + pause + timedelta(days=1))


def _told(error: NotTaken) -> dict[str, Any]:
    return {
        "code": "webhook_not_taken",
        "detail": str(error)[:500],
        "hint": "See what your server says; the next try is automatic.",
    }


def payload(run: Retraining, until: datetime) -> dict[str, Any]:
    """What the webhook is told. ``links`` are whole addresses; ``tokens`` go with them as Authorization: Bearer."""
    org, name = run.organization.slug, run.deployment.name
    where = {"org": org, "retraining_id": run.pk}

    def at(view: str, **more: Any) -> str:
        return f"{settings.BASE_URL}{reverse(view, kwargs={**where, **more})}"

    data = {file: at("api_retraining_data", file=file) for file in rows.files(run)}
    return {
        "retraining": run.pk,
        "organization": org,
        "deployment": name,
        "model": run.deployment.model.slug,
        "champion": {"version": run.champion.number, "sha256": run.champion.sha256},
        "trigger": run.trigger,
        "reason": {key: run.reason.get(key) for key in ("what", "since", "why", "kinds")},
        "window": {"since": rows.since(run).isoformat(), "until": run.until.isoformat()},
        "expires_at": until.isoformat(),
        "links": {
            "page": links.page("retraining_detail", org=org, name=name, retraining_id=run.pk),
            "data": data,
            "candidate": at("api_retraining_candidate"),
        },
        "tokens": {"data": token(run, "data"), "push": token(run, "push")},
    }
