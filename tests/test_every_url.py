"""Every address x every method x every kind of caller: nobody gets through a door that is not theirs, and no door breaks.

The table is ``tests.url_rights``: an address that is missing there fails here.
"""

from __future__ import annotations

import gzip
import io
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, get_resolver, reverse

from accounts import services
from accounts.models import ApiKey, Membership, User
from accounts.roles import ACTIONS, Role, Scope
from mlops.core import clock, storage
from mlops.welcome import sign_in_link
from monitoring import announcing, bell, channel_services, links
from monitoring.models import Attempt, BellNotice, DriftCheck, Notification, Retraining, RetrainingPolicy
from monitoring.retraining.policies import terms_of
from registry.models import Source, SourceDelivery, SourcePush
from serving.models import LogArchive, LogDeletion
from tests.stage import Stage, named
from tests.url_rights import API, BEARER, DESCRIBE, DIALECTS, OWN, PAGES, PERSON, PUBLIC, RIGHTS, Rights
from tests.world import SCOPES

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ROLES = {"vic": Role.VIEWER, "dan": Role.DEVELOPER, "alice": Role.ADMIN}
NOT_ALLOWED = "a refusal: the table does not allow this method"
THEIRS = ("account_", "mfa_", "favicon")  # Django's and allauth's views show their form whatever the method
CSRF_EXEMPT = {"unsubscribe"}  # its signed link is the permission, and mail programs post it (RFC 8058)


def patterns(resolver: Any = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Every pattern of the product with its route; Django admin's own insides aside."""
    for each in (resolver or get_resolver()).url_patterns:
        route = prefix + str(each.pattern)
        if route.startswith("admin/"):
            continue
        if isinstance(each, URLPattern):
            yield route, each
        else:
            yield from patterns(each, route)


def test_every_address_has_its_line_in_the_table() -> None:
    found = {each.name for _, each in patterns()}
    assert None not in found, [route for route, each in patterns() if each.name is None]
    assert found - set(RIGHTS) == set(), "add these to tests/url_rights.py"
    assert set(RIGHTS) - found == set(), "these are gone: take them out of tests/url_rights.py"
    assert {need.removeprefix(OWN) for line in RIGHTS.values() for need in line.values()} <= {
        *ACTIONS,
        PUBLIC,
        PERSON,
        DESCRIBE,
        BEARER,
    }


OWN_RULE = {
    "direction": "above", "threshold": "0.3", "window_minutes": "60", "minimum_rows": "10", "severity": "warning", "enabled": "on",
}  # fmt: skip

# -- addresses and bodies -----------------------------------------------------------------------------------------------


@dataclass
class Addresses:
    """The path of every URL name, about things that exist on the stage."""

    stage: Stage
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stage, world = self.stage, self.stage.world
        newcomer = User.objects.create(email="ned@acme.test", name="Ned")
        self.member = Membership.objects.create(organization=world.acme, user=newcomer, role=Role.VIEWER)
        stage.api.put(stage.url(f"models/{stage.model}/aliases/staging"), {"version": 1}, format="json")
        self.tokens = {
            "invitation_accept": stage.invitation_path.split("/")[2],
            "unsubscribe": links.unsubscribe("acme", world.acme.pk, world.vic.pk, "digest")
            .rstrip("/")
            .rsplit("/", 1)[1],
            "one_time_sign_in": sign_in_link(world.vic.email).split("/")[2],
        }
        self.version_id = stage.version.pk
        with stage.jobs():
            rows = [*stage.churn.rows, stage.churn.bad_row]
            batch = stage.api.post(
                f"/api/v1/predict/acme/{stage.name}/batch", rows, format="json", HTTP_PREFER="respond-async"
            ).json()
            stage.post(f"deployments/{stage.name}/previews", {"name": "walk", "version": 1})
            stage.post(f"deployments/{stage.name}/rollout", {"version": 1})
            compared = stage.post(f"deployments/{stage.name}/compare", {"version": 1, "last": 50}, 202)
            given, self.received = self._shared(stage)
            asked = self._governed(stage)
        self.values = {
            "org": stage.org, "model": stage.model, "name": stage.name, "deployment": stage.name, "number": 2, "job_id": stage.job.pk,
            "key_id": stage.key.pk, "membership_id": self.member.pk, "member_id": self.member.pk, "invitation_id": stage.invitation.pk,
            "project": "default", "alias": "staging", "prediction_id": stage.prediction.pk, "batch_id": batch["id"], "comparison_id": compared["id"], "check_id": stage.check.pk,
            "preview": "walk", "share_id": given, "promotion_id": asked, "act": "promote", "incident_id": stage.incident.pk, "retraining_id": self._retrained(stage), "file": "recent.csv", "key": "nonsense", "uidb36": "1", "version": "2",
        }  # fmt: skip

        self._logged(stage)
        begun = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": "filename YS5wa2w="}
        upload = stage.api.post(stage.url("uploads"), headers=begun)
        self.values["upload_id"] = uuid.UUID(upload["Location"].rsplit("/", 1)[1])

        self.values |= self._channel(stage)
        self._paths: dict[str, str] = {}
        self.values["source_id"] = self._source(stage)
        about = {"name": "Walked", "measure": "error_rate", "threshold": 0.5}
        formula = {"name": "walked", "language": "formula", "source": "share(prediction == actual)"}  # a custom metric
        with stage.jobs():
            self.values["metric"] = stage.post(f"deployments/{stage.name}/metrics", formula)["name"]
        self.values["rule"] = stage.post(f"deployments/{stage.name}/rules", about)["rule"]

    def _logged(self, stage: Stage) -> None:
        """An archive of the log, and a deletion that was counted."""
        row, body = stage.prediction, {"column": "plan", "value": "enterprise"}
        with stage.jobs():
            answer = stage.world.api("alice").post(
                stage.url(f"deployments/{stage.name}/log/deletions"), body, format="json"
            )
        assert answer.status_code == 202, answer.content
        kept = storage.store(io.BytesIO(b"PAR1"), folder="test", filename="a.parquet", limit_bytes=100)
        archive = LogArchive.objects.create(
            organization=stage.world.acme, deployment=row.deployment, day=row.at.date(), first_id=row.pk, last_id=row.pk, rows=1,
            size_bytes=kept.size_bytes, sha256=kept.sha256, key=kept.key,
        )  # fmt: skip
        LogDeletion.objects.update(certificate="CERTIFICATE OF DELETION\n")  # without deleting the rows others look at
        self.values |= {"archive_id": archive.pk, "deletion_id": answer.json()["id"]}

    def _retrained(self, stage: Stage) -> int:
        """A run that proposes version 1, with what was measured."""
        dan, deployment = stage.world.dan, stage.version.model.deployments.get(name=stage.name)
        org, versions = stage.world.acme, {each.number: each for each in stage.version.model.versions.all()}
        policy = RetrainingPolicy.objects.create(
            organization=org, deployment=deployment, url="https://trainer.example.test/train", changed_by=dan, incident_kinds=["drift"],
            note="Cooldown: the next may begin tomorrow.", noted_at=clock.now(),
        )  # fmt: skip
        side = {
            "rows": 180,
            "metric": "accuracy",
            "champion": 0.81,
            "candidate": 0.9,
            "gain": 0.09,
            "low": 0.04,
            "high": 0.14,
            "failed": 0,
        }
        run = Retraining.objects.create(
            organization=org, deployment=deployment, state="proposed", trigger="hand", champion=versions[2], candidate=versions[1],
            terms=terms_of(policy), until=clock.now(), actor="Dan", created_by=dan, metrics={"rows": 400.0},
            reason={"what": "`months` moved: PSI 0.41.", "why": "Values are ten times higher."},
            figures={
                "reference": side, "recent": side, "replay": {"rows": 400, "failed": 0, "changed": 0.12, "latency_factor": 1.1},
                "checks": [{"name": "recent", "verdict": "ok", "sentence": "It is right on 90 %, the live version on 81 %."},
                           {"name": "traffic", "verdict": "unknown", "sentence": "There was no traffic to replay."}],
            },
            steps=[{"state": state, "at": clock.now().isoformat(), "text": "As it went."} for state in ("queued", "waiting", "validating", "comparing", "proposed")],
        )  # fmt: skip
        return run.pk

    def _governed(self, stage: Stage) -> int:
        """A promotion that waits, in a model where every developer may approve."""
        policy = {"staging_approvals": 1, "approver_role": "developer", "author_may_approve": True}
        alice = stage.world.api("alice")
        assert alice.put(stage.url(f"models/{stage.model}/policy"), policy, format="json").status_code == 200
        return stage.post(f"models/{stage.model}/versions/2/promotions", {"to_stage": "staging"})["id"]

    def _channel(self, stage: Stage) -> dict[str, Any]:
        """A webhook of alice's (nothing is sent: its host is an address), a message that failed, a line at dan's bell."""
        acme = stage.world.acme
        channel, _ = channel_services.create(
            acme, stage.world.caller("alice"), kind="webhook", name="Walked", address="https://93.184.216.34/hook"
        )
        news = announcing.News(
            type="incident.opened", key="walked", title="acme/fraud: slow", text="Slow.", data={"a": 1}
        )
        announcing.write(acme, news, [channel])
        Notification.objects.filter(target=channel).update(status="failed", attempts=1, error="It cannot be reached.")
        delivery = Notification.objects.get(target=channel)
        Attempt.objects.create(
            notification=delivery, outcome="failed", status=503, duration_ms=31, reply="busy", error="busy"
        )
        bell.ring(acme, "walked", title="fraud: slow", text="Slow.", severity="warning", needs="incident.view")
        notice = BellNotice.objects.get(user=stage.world.dan, key="walked")
        return {"channel_id": channel.pk, "delivery_id": delivery.pk, "notice_id": notice.pk}

    def _source(self, stage: Stage) -> str:
        """A repository that alice connected. No job runs: nothing is fetched."""
        body = {"clone_url": "https://git.example.test/acme/churn", "model": "churn", "deployment": "walked"}
        answer = stage.world.api("alice").post(stage.url("sources"), body, format="json")
        assert answer.status_code == 201, answer.content
        source = Source.objects.get(pk=answer.json()["id"])
        facts = {
            "version": 2, "size_bytes": 9, "p95_ms": 1.2, "environment": None, "packages": 0, "against": 1, "predictions": None,
            "sentence": "Of 200 logged requests, 3 % changed class.", "schema": [{"level": "warning", "text": "'spend' may not be missing in it."}],
        }  # fmt: skip
        push = SourcePush.objects.create(
            organization=stage.world.acme, source=source, sha="5" * 40, ref="refs/heads/faster", branch="faster", pull_request=42, production=False,
            message="Trees that are not so deep", author="Ada", status="live", version=stage.version, preview="pr-42-5555555", report={"facts": facts},
            fetched_at=clock.now(), finished_at=clock.now(),
        )  # fmt: skip
        SourceDelivery.objects.create(source=source, delivery_id="walked", event="pull_request", outcome="queued")
        self.values["push_id"] = push.pk
        return str(source.pk)

    def _shared(self, stage: Stage) -> tuple[int, int]:
        """A share that acme gave to globex, and one of globex's copy that it got back."""
        rights = {"organization": "globex", "rights": ["copy"]}
        given = stage.world.api("alice").post(f"/api/v1/acme/models/{stage.model}/shares", rights, format="json").json()
        mallory = stage.world.api("mallory")
        with stage.jobs():
            mallory.post(f"/api/v1/globex/shared/{given['id']}/copy", {"version": 2, "model": "lent"}, format="json")
        back = {**rights, "organization": "acme"}
        return given["id"], mallory.post("/api/v1/globex/models/lent/shares", back, format="json").json()["id"]

    def path(self, name: str) -> str:
        if name not in self._paths:
            self._paths[name] = self._path(name)
        return self._paths[name]

    def _path(self, name: str) -> str:
        try:
            return reverse(name)
        except NoReverseMatch:
            wanted = next(each for _, each in patterns() if each.name == name).pattern.regex.groupindex
            known = {**self.values, "kind": "reference", "token": self.tokens.get(name)}
            if "deletion" in name:
                known["act"] = "cancel"
            if name.removeprefix("api_").startswith("shared_"):
                known["share_id"] = self.received
            nested = get_resolver().reverse_dict.getlist(name)[0][0][0][1]
            return reverse(name, kwargs={key: known[key] for key in {*wanted, *nested}})

    def body(self, name: str, method: str) -> dict[str, Any]:
        """What a sensible caller sends."""
        stage = self.stage
        model_file = stage.churn.path
        bodies: dict[tuple[str, str], dict[str, Any]] = {
            ("predict", "POST"): {"inputs": stage.churn.rows[:1]},
            ("api_deployment_compare", "POST"): {"version": 1},
            ("predict_preview", "POST"): {"inputs": stage.churn.rows[:1]},
            ("api_deployment_traffic", "PUT"): {"routes": [{"version": 1, "weight": 40}, {"version": 2, "weight": 60}]},
            ("api_rollout", "POST"): {"version": 1},
            ("api_preview_list", "POST"): {"name": "new", "version": 1},
            ("deployment_shares", "POST"): {"weight_1": "40", "weight_2": "60", "sticky": "key"},
            ("deployment_rollout", "POST"): {"version": self.version_id},
            ("deployment_preview", "POST"): {"name": "new", "version": self.version_id, "days": "3"},
            ("deployment_batches", "POST"): {"file": named(json.dumps(stage.churn.rows), "rows.json"), "output": "csv"},
            ("deployment_compare", "POST"): {"version": 1, "last": 50},
            ("predict_batch", "POST"): {"inputs": stage.churn.rows[:1]},
            ("deployment_try", "POST"): {"inputs": stage.churn.rows[:1]},
            ("deployment_why", "POST"): {"inputs": stage.churn.rows[:1]},
            ("predict_explain", "POST"): {"inputs": stage.churn.rows[:1]},
            ("mlflow_invocations", "POST"): {"dataframe_records": stage.churn.rows[:1]},
            ("v1_predict", "POST"): {"instances": stage.churn.rows[:1]},
            ("api_key_list", "POST"): {"name": "walk", "scopes": ["predict"]},
            ("api_key_detail", "PATCH"): {"calls_per_minute": 600},
            ("api_member_list", "POST"): {"email": "walk@elsewhere.test", "role": "viewer"},
            ("api_member_detail", "PATCH"): {"role": "developer"},
            ("api_invitation_list", "POST"): {"email": "walk@elsewhere.test", "role": "viewer"},
            ("api_project_list", "POST"): {"name": "Walk"},
            ("api_project_detail", "PATCH"): {"description": "Walked"},
            ("api_model_list", "POST"): {"model": "walk"},
            ("api_model_detail", "PATCH"): {"name": "Walk"},
            ("api_version_list", "POST"): {"file": named(model_file.read_bytes(), model_file.name)},
            ("api_version_detail", "PATCH"): {"description": "Walked"},
            ("api_alias_detail", "PUT"): {"version": 2},
            ("api_source_list", "POST"): {"clone_url": "https://git.example.test/acme/walk", "model": "walk"},
            ("api_source_detail", "PATCH"): {"previews": False},
            ("api_source_deploy", "POST"): {"ref": "main"},
            ("source_list", "POST"): {
                "clone_url": "https://git.example.test/acme/walk",
                "kind": "github",
                "model": "walk",
                "branch": "main",
            },
            ("source_settings", "POST"): {"branch": "main", "previews": "on"},
            ("source_enable", "POST"): {"on": "1"},
            ("source_deploy", "POST"): {"ref": "main"},
            ("deployment_data", "POST"): {"retention_days": "14", "sample_percent": "50", "archive": "on"},
            ("deployment_deletions", "POST"): {"column": "plan", "value": "walk"},
            ("api_log_policy", "PATCH"): {"retention_days": 14},
            ("api_log_deletion_list", "POST"): {"column": "plan", "value": "walk"},
            ("api_policy", "PUT"): {"staging_approvals": 2},
            ("api_promotion_list", "POST"): {"to_stage": "production"},
            ("api_version_revoke", "POST"): {"reason": "Walked", "force": True},
            ("api_share_list", "POST"): {"organization": "globex", "rights": ["read"], "version": 1},
            ("model_sharing", "POST"): {"organization": "globex", "rights": ["read"], "version": "1"},
            ("api_shared_copy", "POST"): {"version": 1, "model": "walk"},
            ("shared_copy", "POST"): {"version": "1", "model": "walk"},
            ("api_deployment_list", "POST"): {"name": "walk", "model": stage.model, "version": 1},
            ("api_deployment_detail", "PATCH"): {"calls_per_minute": 6000},
            ("api_deployment_versions", "POST"): {"version": 1},
            ("api_drift_policy", "PATCH"): {"budget_days": 30},
            ("deployment_budget", "POST"): {"budget_days": "30", "multivariate": "on"},
            ("api_rule_detail", "PATCH"): {"threshold": 0.3},
            ("api_rule_list", "POST"): {"name": "Walk", "measure": "requests"},
            ("api_metric_list", "POST"): {"name": "walk", "language": "formula", "source": "count()"},
            ("api_metric_try", "POST"): {"language": "formula", "source": "count()"},
            ("api_metric_detail", "PATCH"): {"unit": "EUR"},
            ("predict_feedback", "POST"): {
                "prediction_id": str(stage.prediction.pk),
                "actual": stage.prediction.prediction,
            },
            ("prediction_feedback", "POST"): {"actual": stage.prediction.prediction},
            ("quality_feedback", "POST"): {"file": named("prediction_id,actual\n", "labels.csv")},
            ("metric_create", "POST"): {
                "name": "walk",
                "language": "formula",
                "source": "count()",
                "window_hours": "24",
            },
            ("metric_change", "POST"): {"language": "formula", "source": "count()", "window_hours": "24"},
            ("api_rule_backtest", "POST"): {"rule": "error_rate", "threshold": 0.1},
            ("api_incident_snooze", "POST"): {"hours": 2},
            ("api_retraining_policy", "PATCH"): {"days": 10},
            ("api_retraining_bundle", "POST"): {"bundle": named("def train(data_dir, out_dir): ...", "train.py")},
            ("retraining_bundle", "POST"): {"bundle": named("def train(data_dir, out_dir): ...", "train.py")},
            ("api_incident_comment", "POST"): {"text": "Walked"},
            ("model_upload", "POST"): {"model": "walk", "file": named(model_file.read_bytes(), model_file.name)},
            ("model_settings", "POST"): {"name": "Walk", "description": "", "tags": "{}", "project": "default"},
            ("version_edit", "POST"): {"description": "Walked", "metrics": "{}", "tags": "{}"},
            ("version_alias", "POST"): {"alias": "production"},
            ("version_promote", "POST"): {"to_stage": "production"},
            ("version_revoke", "POST"): {"reason": "Walked", "back_to": "before"},
            ("model_policy", "POST"): {"staging_approvals": "1", "production_approvals": "2", "approver_role": "admin"},
            ("version_schema", "POST"): {"schema": "{}"},
            ("project_list", "POST"): {"name": "Walk", "slug": "walk"},
            ("deployment_create", "POST"): {"name": "walk", "version": self.version_id},
            ("deployment_deploy", "POST"): {"version": self.version_id},
            ("member_list", "POST"): {"email": "walk@elsewhere.test", "role": "viewer"},
            ("member_role", "POST"): {"role": "developer"},
            ("key_list", "POST"): {"name": "walk", "scopes": ["predict"], "role": "viewer"},
            ("channel_list", "POST"): {
                "kind": "webhook",
                "name": "New",
                "address": "https://93.184.216.34/new",
                "events": ["incident.opened"],
                "least_severity": "info",
            },
            ("channel_settings", "POST"): {
                "name": "Walked on",
                "events": ["incident.opened"],
                "least_severity": "info",
            },
            ("channel_enable", "POST"): {"on": "0"},
            ("api_channel_list", "POST"): {"kind": "webhook", "name": "New", "address": "https://93.184.216.34/new"},
            ("api_channel_detail", "PATCH"): {"least_severity": "warning"},
            ("rule_change", "POST"): {"name": "Walked", "measure": "error_rate", **OWN_RULE},
            ("rule_create", "POST"): {"name": "Walk", "measure": "error_rate", **OWN_RULE},
            ("rule_switch", "POST"): {"on": "1"},
            ("incident_mute", "POST"): {"factor": "1.5"},
            ("incident_comment", "POST"): {"text": "Walked"},
            ("incident_snooze", "POST"): {"hours": "2"},
            ("organization_settings", "POST"): {"name": "Walked"},
            ("organization_create", "POST"): {"name": "Walked"},
            ("account_settings", "POST"): {"name": "Walked"},
            ("digest_settings", "POST"): {"frequency": "daily", "alerts": "on"},
        }
        return bodies.get((name, method), {})


# -- callers ------------------------------------------------------------------------------------------------------------


# Each walk sends some thousand requests: on a busy machine that takes longer than any other test.
pytestmark = pytest.mark.timeout(900)


@dataclass
class Caller:
    """A cookie or a header; ``role`` in acme (None: stranger), ``scopes`` of a key."""

    label: str
    session: str = ""
    header: str = ""
    role: Role | None = None
    scopes: tuple[str, ...] = tuple(Scope.values)

    def send(self, method: str, path: str, body: dict[str, Any], *, as_json: bool, csrf: bool = False) -> HttpResponse:
        client = Client(raise_request_exception=False, enforce_csrf_checks=csrf)
        if self.session:
            client.cookies[live_settings.SESSION_COOKIE_NAME] = self.session
        headers = {"Authorization": self.header} if self.header else {}
        files = any(hasattr(value, "read") for value in body.values())
        for value in body.values():
            if hasattr(value, "read"):
                value.seek(0)
        how: dict[str, Any] = {"headers": headers}
        if method != "GET" and (as_json or method != "POST") and not files:
            how |= {"data": json.dumps(body), "content_type": "application/json"}
        else:
            how |= {"data": body}
        with transaction.atomic():
            answer = getattr(client, method.lower())(path, **how)
            if answer.streaming:
                b"".join(answer.streaming_content)
            transaction.set_rollback(True)
        return answer


@pytest.fixture
def walk(stage: Stage, settings: Any) -> Addresses:
    settings.AUTH_RATE = settings.API_RATE = 100_000
    kept = storage.store(
        io.BytesIO(gzip.compress(b"<p>A report</p>")), folder="reports", filename="r.html.gz", limit_bytes=1_000
    )
    DriftCheck.objects.filter(pk=stage.check.pk).update(
        report_key=kept.key
    )  # drawing a real one takes seconds, its rights are the same
    return Addresses(stage)


def sessions(stage: Stage) -> dict[str, Caller]:
    people = {
        name: stage.world.client(name).cookies[live_settings.SESSION_COOKIE_NAME].value for name in (*ROLES, "mallory")
    }
    return {name: Caller(f"{name}'s session", session=cookie, role=ROLES.get(name)) for name, cookie in people.items()}


class Findings(list):
    """Everything wrong, one line each, told at the end."""

    def see(self, true: bool, who: Caller, method: str, name: str, answer: HttpResponse, wanted: str) -> None:
        if not true:
            place = f" -> {answer['Location']}" if answer.has_header("Location") else ""
            self.append(f"{who.label}: {method} {name}: {answer.status_code}{place}, wanted {wanted}")

    def everywhere(self, who: Caller, method: str, name: str, answer: HttpResponse) -> None:
        self.see(answer.status_code < 500, who, method, name, answer, "no crash")
        self.see(bool(answer.get("X-Request-Id")), who, method, name, answer, "X-Request-Id")

    def told(self) -> None:
        assert not self, f"{len(self)} findings:\n" + "\n".join(self)


# -- pages --------------------------------------------------------------------------------------------------------------


def _to_sign_in(answer: HttpResponse) -> bool:
    return answer.status_code == 302 and answer["Location"].startswith("/accounts/")


def _page_right(need: str, who: Caller, answer: HttpResponse) -> tuple[bool, str]:
    """Whether a caller got what he should for this need, and what that is."""
    if need == PUBLIC:
        return answer.status_code not in (401, 500), "an answer"
    if not who.session:
        return _to_sign_in(answer), "the way to sign in"
    if need == PERSON:
        return answer.status_code != 401, "an answer"
    if who.role is None:
        return answer.status_code == 404, "404"
    if not who.role.at_least(ACTIONS[need].role):
        return answer.status_code == 403, "403"
    return answer.status_code not in (401, 403, 404), "to get in"


@pytest.mark.slow
def test_pages_let_in_who_may_and_nobody_else(walk: Addresses) -> None:
    found = Findings()
    signed_in = sessions(walk.stage)
    key = Caller("alice's key", header=f"Bearer {walk.stage.world.key('alice')}")
    everybody = [Caller("anonymous"), key, *signed_in.values()]
    for name, rights in PAGES.items():
        path = walk.path(name)
        for method in METHODS:
            need = rights.get(method)
            for who in everybody if need else (everybody[0], signed_in["mallory"], signed_in["alice"]):
                answer = who.send(
                    method, path, walk.body(name, method), as_json=name in ("deployment_try", "deployment_why")
                )
                found.everywhere(who, method, name, answer)
                if need:
                    true, wanted = _page_right(need, who, answer)
                    found.see(true, who, method, name, answer, wanted)
                elif not name.startswith(THEIRS):
                    found.see(answer.status_code >= 400 or _to_sign_in(answer), who, method, name, answer, NOT_ALLOWED)
    found.told()


def test_every_unsafe_page_call_needs_its_csrf_token(walk: Addresses) -> None:
    found = Findings()
    alice = sessions(walk.stage)["alice"]
    for name, rights in PAGES.items():
        for method in METHODS[1:]:
            answer = alice.send(
                method,
                walk.path(name),
                walk.body(name, method),
                as_json=name in ("deployment_try", "deployment_why"),
                csrf=True,
            )
            if name in CSRF_EXEMPT:
                continue
            refused = (403,) if method in rights else (403, 405)
            found.see(answer.status_code in refused, alice, method, name, answer, "403: no CSRF token")
    found.told()


# -- API ----------------------------------------------------------------------------------------------------------------


def _lacking(need: str) -> tuple[str, ...]:
    """Every scope but those that would do."""
    enough = {Scope.PREDICT, Scope.READ} if need == DESCRIBE else {ACTIONS[need].scope}
    return tuple(scope for scope in Scope.values if scope not in enough)


def _api_right(need: str, who: Caller, answer: HttpResponse) -> tuple[bool, str]:
    if need == PUBLIC:
        return answer.status_code not in (403, 404), "an answer"
    if not who.header or who.label == "revoked key":
        return answer.status_code == 401 and answer.has_header("WWW-Authenticate"), "401 with WWW-Authenticate"
    if need == BEARER or (need.startswith(OWN) and who.role is None):
        return answer.status_code == 200, "200"
    need = need.removeprefix(OWN)
    if who.role is None:
        return answer.status_code == 404, "404"
    action = ACTIONS["deployment.view" if need == DESCRIBE else need]
    scopes = {Scope.PREDICT, Scope.READ} if need == DESCRIBE else {action.scope}
    if not who.role.at_least(action.role) or not scopes & set(who.scopes):
        return answer.status_code == 403, "403"
    return answer.status_code not in (401, 403, 404), "to get in"


def _problem(answer: HttpResponse) -> bool:
    """Whether an error reads as every error of the API does."""
    try:
        body = json.loads(answer.content)
    except json.JSONDecodeError:
        return False
    if answer["Content-Type"] != "application/problem+json":
        return False
    return bool(body.get("code")) and bool(body.get("detail")) and body.get("request_id") == answer["X-Request-Id"]


def _in_its_words(answer: HttpResponse) -> bool:
    """Whether an error of another server's protocol reads as its clients expect it."""
    if answer.status_code == 415:
        return answer["Content-Type"].startswith(("text/plain", "application/json"))
    body = json.loads(answer.content)
    said = body.get("error") or body.get("message")
    return answer["Content-Type"] == "application/json" and bool(said) and "code" not in body


def _keys(stage: Stage) -> Callable[[str, tuple[str, ...] | None], Caller]:
    made: dict[tuple[str, tuple[str, ...]], Caller] = {}

    def key(name: str, scopes: tuple[str, ...] | None = None) -> Caller:
        role = ROLES.get(name)
        wanted = scopes or tuple(SCOPES[role or Role.OWNER])
        if (name, wanted) not in made:
            plain = stage.world.key(name, list(wanted))
            made[name, wanted] = Caller(
                f"{name}'s key with {'+'.join(wanted)}", header=f"Bearer {plain}", role=role, scopes=wanted
            )
        return made[name, wanted]

    return key


@pytest.mark.slow
def test_the_api_lets_in_who_may_and_nobody_else(walk: Addresses) -> None:
    _walk_api(walk, API, _problem)


@pytest.mark.slow
def test_other_protocols_let_in_who_may_and_nobody_else(walk: Addresses) -> None:
    _walk_api(walk, DIALECTS, _in_its_words)


def _walk_api(walk: Addresses, table: Rights, reads_well: Callable[[HttpResponse], bool]) -> None:
    found, key = Findings(), _keys(walk.stage)
    revoked = Caller("revoked key", header=f"Bearer {walk.stage.world.key('alice')}", role=Role.ADMIN)
    services.revoke_key(ApiKey.objects.first(), walk.stage.world.caller("alice"))
    session = Caller("alice's session without a key", session=sessions(walk.stage)["alice"].session)
    strangers = [Caller("anonymous"), session, revoked, key("mallory")]
    for name, rights in table.items():
        path = walk.path(name)
        for method in METHODS:
            need = rights.get(method)
            callers = (
                [*strangers, key("vic"), key("dan"), key("alice")]
                if need
                else [strangers[0], key("mallory"), key("alice")]
            )
            if need in ACTIONS or need == DESCRIBE:
                callers.append(key("alice", _lacking(need)))
            for who in callers:
                answer = who.send(method, path, walk.body(name, method), as_json=True)
                found.everywhere(who, method, name, answer)
                if answer.status_code >= 400:
                    found.see(reads_well(answer), who, method, name, answer, "an error in the form of its API")
                if not need:
                    found.see(answer.status_code >= 400, who, method, name, answer, NOT_ALLOWED)
                elif name == "predict_docs" and not who.header:
                    found.see(answer.status_code == 302, who, method, name, answer, "the way to the page")
                else:
                    true, wanted = _api_right(need, who, answer)
                    found.see(true, who, method, name, answer, wanted)
    found.told()
