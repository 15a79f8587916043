"""Which stage a version has reached, by signed promotions, and which one a deployment asks for. Changes nothing.

A stage says where a version may answer; an alias says which version is meant. Whoever routes to a version asks ``require``.
"""

from __future__ import annotations

from typing import Any

from mlops.core import errors
from registry import signing
from registry.models import ModelVersion, Promotion, PromotionPolicy, RegisteredModel, Stage


def policy_of(model: RegisteredModel) -> PromotionPolicy:
    """The model's rule; an unsaved one that asks for nothing where there is none."""
    found = PromotionPolicy.objects.filter(model=model).first()
    return found or PromotionPolicy(organization_id=model.organization_id, model=model)


def known_policy(model: RegisteredModel) -> PromotionPolicy:
    """The same for a model that was fetched together with its rule: no query."""
    found: PromotionPolicy | None = getattr(model, "promotion_policy", None)
    return found or PromotionPolicy(organization_id=model.organization_id, model=model)


def refuse_revoked(version: ModelVersion) -> None:
    """Raises Conflict (``version_revoked``)."""
    if version.revoked_at is not None:
        raise errors.Conflict(
            f"{version} was revoked{f': {version.revoked_reason}' if version.revoked_reason else ''}.",
            code="version_revoked",
            hint="It is never loaded again. Use another version, or push a mended one.",
        )


def require(version: ModelVersion, place: str) -> None:
    """Whether ``version`` may answer as the deployment ``place``. Raises Conflict (``version_revoked``, ``not_promoted``, ``signature_invalid``)."""
    policy = policy_of(version.model)
    require_stage(version, policy.stage_of(place), policy, place)


def require_stage(
    version: ModelVersion, stage: Stage, policy: PromotionPolicy | None = None, place: str = ""
) -> Promotion | None:
    """The signed promotion that lets it; None where the model's rule asks for no approval. Raises as ``require`` does."""
    refuse_revoked(version)
    policy = policy or policy_of(version.model)
    needed = policy.approvals(stage)
    if needed == 0:
        return None
    broken: errors.Conflict | None = None
    for row in version.promotions.filter(state=Promotion.State.APPROVED):
        try:
            reached, approvers = signed(version, row)
        except errors.Conflict as error:
            broken = error
            continue
        if reached.rank >= stage.rank and approvers >= needed:
            return row
    if broken is not None:
        raise broken
    raise errors.Conflict(
        f"{version} is not promoted to {stage.value}{f', as {place} needs' if place else ''}: "
        f"that takes {needed} approval{'' if needed == 1 else 's'}.",
        code="not_promoted",
        hint="Ask for the promotion on the version's page, or POST .../promotions, and have it approved.",
    )


def signed(version: ModelVersion, row: Promotion) -> tuple[Stage, int]:
    """What the promotion's signature says: which stage, by how many people. Raises Conflict when it is not about this version as it is."""
    try:
        predicate: dict[str, Any] = signing.verify_promotion(version, row.envelope)["predicate"]
    except errors.Conflict as error:
        raise errors.Conflict(
            f"The promotion of {version} to {row.to_stage} does not hold. {error.detail}",
            code="signature_invalid",
            hint="Ask for the promotion again.",
        ) from error
    return Stage(predicate["to"]), len({each["person"] for each in predicate["approvers"]})
