from django.urls import path

from registry.api import models, shares, versions

_VERSION = "models/<slug:model>/versions/<int:number>"

urlpatterns = [
    path("projects", models.ProjectList.as_view(), name="api_project_list"),
    path("projects/<slug:project>", models.ProjectDetail.as_view(), name="api_project_detail"),
    path("models", models.ModelList.as_view(), name="api_model_list"),
    path("models/<slug:model>", models.ModelDetail.as_view(), name="api_model_detail"),
    path("models/<slug:model>/archive", models.ModelArchive.as_view(), name="api_model_archive"),
    path("models/<slug:model>/restore", models.ModelRestore.as_view(), name="api_model_restore"),
    path("models/<slug:model>/aliases/<str:alias>", models.AliasDetail.as_view(), name="api_alias_detail"),
    path("models/<slug:model>/shares", shares.ShareList.as_view(), name="api_share_list"),
    path("models/<slug:model>/shares/<int:share_id>", shares.ShareDetail.as_view(), name="api_share_detail"),
    path("models/<str:model>/versions", versions.VersionList.as_view(), name="api_version_list"),
    path(_VERSION, versions.VersionDetail.as_view(), name="api_version_detail"),
    path(f"{_VERSION}/schema", versions.VersionSchema.as_view(), name="api_version_schema"),
    path(f"{_VERSION}/validate", versions.VersionValidate.as_view(), name="api_version_validate"),
    path(f"{_VERSION}/archive", versions.VersionArchive.as_view(), name="api_version_archive"),
    path(f"{_VERSION}/restore", versions.VersionRestore.as_view(), name="api_version_restore"),
    path(f"{_VERSION}/download", versions.VersionDownload.as_view(), name="api_version_download"),
    path(f"{_VERSION}/datasets/<slug:kind>/download", versions.DatasetDownload.as_view(), name="api_dataset_download"),
    path("datasets", versions.DatasetList.as_view(), name="api_dataset_list"),
]
