"""Deployments, who answers for them, and what was answered."""

from serving.models.batch import BatchPart, BatchRun, Comparison
from serving.models.deployment import MOVES, Deployment, DeploymentQuerySet, DeploymentStatus, Release, Route, Sticky
from serving.models.log import PredictionLog, PredictionQuerySet, Segment, ShippedBatch, TrafficBucket
from serving.models.log_policy import LogArchive, LogDeletion, LogPolicy, Redaction, RedactionKey
from serving.models.rollout import Preview, PreviewQuerySet, Rollout, RolloutTally, ShadowBucket, ShadowFlip

__all__ = [
    "BatchPart",
    "BatchRun",
    "Comparison",
    "Deployment",
    "DeploymentQuerySet",
    "DeploymentStatus",
    "MOVES",
    "LogArchive",
    "LogDeletion",
    "LogPolicy",
    "PredictionLog",
    "PredictionQuerySet",
    "Preview",
    "PreviewQuerySet",
    "Redaction",
    "RedactionKey",
    "Release",
    "Rollout",
    "RolloutTally",
    "Route",
    "Segment",
    "ShadowBucket",
    "ShadowFlip",
    "ShippedBatch",
    "Sticky",
    "TrafficBucket",
]
