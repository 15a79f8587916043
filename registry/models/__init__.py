"""Projects, models, versions and their files."""

from registry.models.blob import Blob
from registry.models.dataset import Dataset
from registry.models.environment import Environment, EnvironmentStatus
from registry.models.project import Project
from registry.models.promotion import Approval, Parent, Promotion, PromotionPolicy, Stage
from registry.models.registered_model import Alias, RegisteredModel
from registry.models.share import Right, Share
from registry.models.source import PushStatus, Source, SourceDelivery, SourcePush
from registry.models.upload import Upload
from registry.models.version import Finding, ModelVersion, VersionStatus

__all__ = [
    "Alias",
    "Approval",
    "Blob",
    "Dataset",
    "Environment",
    "EnvironmentStatus",
    "Finding",
    "ModelVersion",
    "Parent",
    "Project",
    "Promotion",
    "PromotionPolicy",
    "PushStatus",
    "RegisteredModel",
    "Right",
    "Share",
    "Source",
    "SourceDelivery",
    "SourcePush",
    "Stage",
    "Upload",
    "VersionStatus",
]
