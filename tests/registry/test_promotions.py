"""Promotions through the API and the pages: who may let a version go on, how often that counts, and what a revocation ends."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts.models import AuditEvent, Membership
from accounts.roles import Role, Scope
from mlops.core import errors, storage
from registry import signing
from registry.models import Alias, Approval, ModelVersion, Promotion, PromotionPolicy, RegisteredModel
from registry.services import aliases, promotions, stages
from registry.services.projects import default_project
from tests.shared import PROJECT

pytestmark = pytest.mark.django_db
BASE = "/api/v1/acme/models/fraud"
KEY = [Scope.READ, Scope.WRITE, Scope.ADMIN]


def a_version(world: Any, number: int = 1, **fields: Any) -> ModelVersion:
    """A ready, signed version of ``fraud``, pushed by Dan: rows and a stored file, as a validation leaves them."""
    model, _ = RegisteredModel.objects.get_or_create(
        organization=world.acme, slug="fraud", defaults={"name": "Fraud", "project": default_project(world.acme)}
    )
    stored = storage.store(io.BytesIO(b"bytes %d" % number), folder="test", filename="f.joblib", limit_bytes=1 << 20)
    version = ModelVersion.objects.create(
        organization=world.acme, model=model, number=number, file_key=stored.key, filename="f.joblib", sha256=stored.sha256,
        size_bytes=stored.size_bytes, format="sklearn", framework="sklearn", schema={"kind": "table", "inputs": []},
        created_by=world.dan, **fields,
    )  # fmt: skip
    version.signature = signing.sign_version(version)
    version.status, version.ready_at = "ready", version.created_at
    version.save()
    version.findings.create(check_name="smoke", level="ok", message="Predicted.")
    RegisteredModel.objects.filter(pk=model.pk).update(last_number=number)
    return version


@pytest.fixture
def version(world: Any) -> ModelVersion:
    return a_version(world)


def rule(world: Any, **fields: Any) -> None:
    answer = world.api("alice").put(f"{BASE}/policy", fields, format="json")
    assert answer.status_code == 200, answer.content


def ask(world: Any, who: str = "dan", to: str = "production", status: int = 201) -> dict[str, Any]:
    answer = world.api(who).post(f"{BASE}/versions/1/promotions", {"to_stage": to, "reason": "Better"}, format="json")
    assert answer.status_code == status, answer.content
    return answer.json()


def word(world: Any, who: str, asked: dict[str, Any], act: str = "approve", status: int = 200) -> dict[str, Any]:
    path = f"{BASE}/versions/1/promotions/{asked['id']}/{act}"
    answer = world.api(who, KEY).post(path, {"comment": "Looks right"}, format="json")
    assert answer.status_code == status, answer.content
    return answer.json()


def test_a_small_team_notices_nothing(world, version) -> None:
    policy = world.api("vic").get(f"{BASE}/policy").json()
    assert (policy["staging_approvals"], policy["production_approvals"], policy["places"]) == (0, 0, {})
    stages.require(version, "fraud")
    shown = ask(world)
    assert (shown["state"], shown["approvals"]) == ("approved", [])
    assert world.api("vic").get(f"{BASE}/versions/1").json()["stage"] == "production"
    assert Alias.objects.get(model=version.model, name="production").version == version


def test_two_people_let_a_version_go_on_and_that_is_signed(world, version) -> None:
    rule(world, production_approvals=2)
    with pytest.raises(errors.Conflict, match="takes 2 approvals") as caught:
        stages.require(version, "fraud")
    assert caught.value.code == "not_promoted"
    asked = ask(world)
    assert asked["state"] == "requested"
    assert word(world, "alice", asked)["state"] == "requested"
    done = word(world, "olga", asked)
    assert done["state"] == "approved"
    assert [each["name"] for each in done["approvals"]] == ["Alice", "Olga"]
    statement = signing.verify_promotion(version, done["attestation"])
    assert statement["predicateType"] == "urn:slipway:promotion:v1"
    assert statement["subject"][0]["digest"]["sha256"] == version.sha256
    told = statement["predicate"]
    assert (told["to"], told["requestedBy"]) == ("production", f"user:{world.dan.pk}")
    assert [each["person"] for each in told["approvers"]] == [f"user:{world.alice.pk}", f"user:{world.olga.pk}"]
    stages.require(ModelVersion.objects.get(pk=version.pk), "fraud")
    actions = list(
        AuditEvent.objects.filter(subject_type="modelversion").order_by("pk").values_list("action", flat=True)
    )
    assert actions == ["promotion.requested", "promotion.approval", "promotion.approval", "promotion.approved"]


def test_nobody_approves_what_is_his_own_whatever_his_role_or_key(world, version) -> None:
    rule(world, production_approvals=1, approver_role="developer")
    asked = ask(world, "alice")
    Membership.objects.filter(user=world.dan).update(role=Role.OWNER)  # a second role makes nobody another person
    assert word(world, "dan", asked, status=403)["code"] == "own_promotion"  # pushed it; by his key
    assert word(world, "alice", asked, status=403)["code"] == "own_promotion"  # asked for it
    page = world.client("dan").post(f"/acme/models/fraud/versions/1/promotions/{asked['id']}/approve/")
    assert page.status_code == 403
    assert not Approval.objects.exists()
    rule(world, production_approvals=1, author_may_approve=True)
    assert word(world, "dan", asked)["state"] == "approved"


def test_who_may_approve_is_the_models_rule(world, version) -> None:
    rule(world, production_approvals=1, approver_role="owner")
    asked = ask(world)
    assert word(world, "alice", asked, status=403)["code"] == "role_too_low"
    assert word(world, "vic", asked, status=403)["code"] == "role_too_low"
    assert word(world, "mallory", asked, status=404)["code"] == "not_found"
    assert word(world, "olga", asked)["state"] == "approved"


def test_one_person_counts_once_and_one_no_ends_it(world, version) -> None:
    rule(world, production_approvals=2)
    asked = ask(world)
    word(world, "alice", asked)
    assert word(world, "alice", asked, status=409)["code"] == "already_decided"
    assert word(world, "alice", asked, "reject", 409)["code"] == "already_decided"
    assert word(world, "olga", asked, "reject")["state"] == "rejected"
    assert word(world, "olga", asked, status=409)["code"] == "promotion_ended"
    with pytest.raises(errors.Conflict):
        stages.require(version, "fraud")
    assert ask(world)["state"] == "requested"  # a rejected one may be asked for again


def test_who_asked_withdraws_and_nobody_asks_twice(world, version) -> None:
    rule(world, production_approvals=1)
    asked = ask(world)
    assert ask(world, "alice", status=409)["code"] == "promotion_open"
    assert word(world, "dan", asked, "withdraw")["state"] == "withdrawn"
    assert word(world, "olga", asked, status=409)["code"] == "promotion_ended"
    again = ask(world, "olga")
    assert word(world, "dan", again, "withdraw", 403)["code"] == "not_yours"
    assert word(world, "alice", again, "withdraw")["state"] == "withdrawn"  # an admin


def test_the_way_leads_through_staging_where_staging_asks_for_approval(world, version) -> None:
    rule(world, staging_approvals=1, production_approvals=1)
    assert ask(world, status=409)["code"] == "not_in_staging"
    word(world, "alice", ask(world, to="staging"))
    assert ask(world, to="staging", status=409)["code"] == "already_promoted"
    asked = ask(world)
    assert (asked["from_stage"], word(world, "alice", asked)["state"]) == ("staging", "approved")


def test_checks_that_must_be_green(world, version) -> None:
    rule(world, required_checks=["smoke"])
    version.findings.create(check_name="smoke", level="warning", message="Slow.")
    refused = ask(world, status=409)
    assert (refused["code"], "smoke" in refused["detail"]) == ("checks_not_green", True)
    version.findings.filter(level="warning").delete()
    assert ask(world)["state"] == "approved"


def test_a_rule_is_checked_and_only_an_admin_sets_it(world, version) -> None:
    put = world.api("alice").put
    assert put(f"{BASE}/policy", {"production_approvals": 11}, format="json").status_code == 422
    assert put(f"{BASE}/policy", {"required_checks": ["luck"]}, format="json").status_code == 422
    assert put(f"{BASE}/policy", {"places": {"fraud": "production"}}, format="json").status_code == 422
    assert put(f"{BASE}/policy", {"places": {"Not A Name": "dev"}}, format="json").json()["code"] == "invalid_policy"
    assert world.api("dan", [Scope.READ, Scope.WRITE]).put(f"{BASE}/policy", {}, format="json").status_code == 403
    with pytest.raises(IntegrityError, match="policy_approvals_few"), transaction.atomic():
        PromotionPolicy.objects.create(organization=world.acme, model=version.model, staging_approvals=11)


def test_the_rule_on_the_page_about_governance_is_one(world, version) -> None:
    page = (PROJECT / "docs" / "governance.md").read_text()
    rule(world, **json.loads(re.findall(r"-d '(\{.*?\})'", page, re.DOTALL)[0]))
    policy = PromotionPolicy.objects.get()
    assert (policy.production_approvals, policy.places["churn-staging"]) == (2, "staging")


def test_a_stricter_rule_counts_for_what_was_promoted_before(world, version) -> None:
    assert ask(world)["state"] == "approved"  # nobody was asked
    rule(world, production_approvals=1)
    with pytest.raises(errors.Conflict, match="not promoted"):
        stages.require(version, "fraud")
    word(world, "alice", ask(world))
    stages.require(version, "fraud")


def test_an_approver_who_loses_his_role_undoes_nothing(world, version) -> None:
    rule(world, production_approvals=2)
    asked = ask(world)
    word(world, "alice", asked)
    Membership.objects.filter(user=world.alice).delete()
    assert word(world, "olga", asked)["state"] == "approved"
    stages.require(version, "fraud")


def test_an_approval_is_about_the_file_that_was_asked_for(world, version) -> None:
    rule(world, production_approvals=2)
    asked = ask(world)
    word(world, "alice", asked)
    version.schema = {"kind": "table", "inputs": [{"name": "age", "type": "double"}]}
    version.signature = signing.sign_version(version)  # as another validation would
    version.save()
    assert word(world, "olga", asked, status=409)["code"] == "promotion_outdated"
    assert not Promotion.objects.filter(state="approved").exists()


def test_a_promotion_whose_row_was_tampered_with_convinces_nobody(world, version) -> None:
    rule(world, production_approvals=1)
    other = a_version(world, 2)
    word(world, "alice", ask(world))
    row = Promotion.objects.get()
    Promotion.objects.create(
        organization=world.acme, version=other, from_stage="dev", to_stage="production", state="approved",
        facts_sha256=signing.facts_sha256(other), envelope=row.envelope, requester="nobody",
    )  # fmt: skip
    ModelVersion.objects.filter(pk=other.pk).update(stage="production")
    with pytest.raises(errors.Conflict, match="does not hold") as caught:
        stages.require(ModelVersion.objects.get(pk=other.pk), "fraud")
    assert caught.value.code == "signature_invalid"
    with pytest.raises(IntegrityError), transaction.atomic():
        Promotion.objects.filter(pk=row.pk).update(envelope=None)
    row.envelope = version.signature  # a signature of ours, about something else
    row.save()
    with pytest.raises(errors.Conflict, match="does not hold"):
        stages.require(version, "fraud")


def test_an_alias_says_what_a_stage_allows(world, version) -> None:
    rule(world, production_approvals=1)
    put = world.api("dan").put(f"{BASE}/aliases/production", {"version": 1}, format="json")
    assert (put.status_code, put.json()["code"]) == (409, "not_promoted")
    word(world, "alice", ask(world))
    assert Alias.objects.get(name="production").version == version
    assert world.api("dan").put(f"{BASE}/aliases/dev", {"version": 1}, format="json").status_code == 200


def test_an_alias_does_not_come_to_a_version_that_is_revoked_meanwhile(world, version) -> None:
    seen_before = ModelVersion.objects.select_related("model__organization").get(pk=version.pk)
    assert world.api("dan").post(f"{BASE}/versions/1/revoke", {"reason": "Leaks"}, format="json").status_code == 200
    with pytest.raises(errors.Conflict, match="was revoked: Leaks"):
        aliases.set_alias(seen_before.model, world.caller("dan"), name="dev", version=seen_before)
    assert not Alias.objects.exists()


def test_a_revoked_version_is_never_loaded_again(world, version) -> None:
    from registry.services import artifacts

    rule(world, production_approvals=1)
    word(world, "alice", ask(world))
    nothing = world.api("dan").post(f"{BASE}/versions/1/revoke", {"reason": " "}, format="json")
    assert nothing.status_code == 422
    answer = world.api("dan").post(f"{BASE}/versions/1/revoke", {"reason": "Leaks names"}, format="json")
    assert (answer.status_code, answer.json()["reason"], answer.json()["live_in"]) == (200, "Leaks names", [])
    gone = ModelVersion.objects.get(pk=version.pk)
    with pytest.raises(errors.Conflict, match="was revoked: Leaks names"):
        artifacts.spec_for(gone)
    assert not gone.aliases.exists()
    assert list(gone.promotions.values_list("state", flat=True)) == ["revoked"]
    shown = world.api("vic").get(f"{BASE}/versions/1").json()
    assert (shown["stage"], shown["revoked_reason"], shown["revoked_at"] is not None) == ("dev", "Leaks names", True)
    assert ask(world, status=409)["code"] == "version_revoked"
    again = world.api("dan").post(f"{BASE}/versions/1/revoke", {"reason": "Again"}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "version_revoked")
    assert AuditEvent.objects.filter(action="version.revoked", detail__reason="Leaks names").count() == 1


def test_lists_of_promotions(world, version) -> None:
    rule(world, production_approvals=1)
    asked = ask(world)
    listed = world.api("vic").get("/api/v1/acme/promotions?state=requested").json()["results"]
    assert [row["id"] for row in listed] == [asked["id"]]
    assert world.api("vic").get("/api/v1/acme/promotions?state=odd").status_code == 422
    assert world.api("vic").get(f"{BASE}/versions/1/promotions").json()["results"][0]["state"] == "requested"
    assert "Waiting for you" in world.client("alice").get("/acme/promotions/").content.decode()
    assert "Waiting for you" not in world.client("dan").get("/acme/promotions/").content.decode()


def test_the_pages_do_what_the_api_does(world, version) -> None:
    alice, dan = world.client("alice"), world.client("dan")
    bad = alice.post(
        "/acme/models/fraud/policy/", {"staging_approvals": "99", "production_approvals": "1", "approver_role": "admin"}
    )
    assert bad.status_code == 422
    alice.post(
        "/acme/models/fraud/policy/",
        {"staging_approvals": "0", "production_approvals": "1", "approver_role": "admin", "places": "fraud-lab=dev", "required_checks": ["smoke"]},
    )  # fmt: skip
    policy = PromotionPolicy.objects.get()
    assert (policy.production_approvals, policy.places, policy.required_checks) == (1, {"fraud-lab": "dev"}, ["smoke"])
    dan.post("/acme/models/fraud/versions/1/promote/", {"to_stage": "production", "reason": "Better"})
    row = Promotion.objects.get()
    page = alice.get("/acme/models/fraud/versions/1/").content.decode()
    assert "Approve" in page
    assert "Signature holds" in page
    assert "somebody else must approve" not in page
    alice.post(f"/acme/models/fraud/versions/1/promotions/{row.pk}/approve/", {"comment": "Fine"})
    row.refresh_from_db()
    assert row.state == "approved"
    dan.post("/acme/models/fraud/versions/1/revoke/", {"reason": "Old"})
    page = dan.get("/acme/models/fraud/versions/1/").content.decode()
    assert "Revoked" in page
    assert "Promote to" not in page


@pytest.mark.django_db(transaction=True)
def test_the_last_approval_arriving_twice_at_once_promotes_once(world) -> None:
    version = a_version(world)
    rule(world, production_approvals=1)
    asked = ask(world)
    told: list[str] = []
    together = threading.Barrier(2)

    def say(who: str) -> None:
        row, caller = Promotion.objects.get(pk=asked["id"]), world.caller(who)
        together.wait(10)
        try:
            told.append(promotions.approve(row, caller).state)
        except errors.Conflict as error:
            told.append(error.code)
        finally:
            connection.close()

    people = [threading.Thread(target=say, args=(who,)) for who in ("alice", "olga")]
    for person in people:
        person.start()
    for person in people:
        person.join(30)
    assert sorted(told) == ["approved", "promotion_ended"]
    assert AuditEvent.objects.filter(action="promotion.approved").count() == 1
    assert version.promotions.get().approvals.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_promotion_and_an_alias_at_once_do_not_wait_for_each_other(world) -> None:
    promoted, named = a_version(world, 1), a_version(world, 2)
    caller, failed = world.caller("alice"), []
    aliases.set_alias(named.model, caller, name="production", version=named)

    def do(together: threading.Barrier, act: Callable[..., Any], *args: Any, **fields: Any) -> None:
        together.wait(10)
        try:
            act(*args, **fields)
        except DatabaseError as error:  # PostgreSQL's word for it: deadlock detected
            failed.append(str(error))
        finally:
            connection.close()

    for _ in range(15):
        Promotion.objects.all().delete()
        together = threading.Barrier(2)
        asks = (together, promotions.request_promotion, promoted, caller)
        names = (together, aliases.set_alias, named.model, caller)
        both = [
            threading.Thread(target=do, args=asks, kwargs={"to": "production"}),
            threading.Thread(target=do, args=names, kwargs={"name": "production", "version": named}),
        ]
        for each in both:
            each.start()
        for each in both:
            each.join(30)
    assert failed == []
