from django.urls import path

from registry.api import governance, models, shares, uploads, versions

_VERSION = "models/<slug:model>/versions/<int:number>"
_PROMOTION = f"{_VERSION}/promotions/<int:promotion_id>"

urlpatterns = [
    path("projects", models.ProjectList.as_view(), name="api_project_list"),
    path("projects/<slug:project>", models.ProjectDetail.as_view(), name="api_project_detail"),
    path("models", models.ModelList.as_view(), name="api_model_list"),
    path("models/<slug:model>", models.ModelDetail.as_view(), name="api_model_detail"),
    path("models/<slug:model>/archive", models.ModelArchive.as_view(), name="api_model_archive"),
    path("models/<slug:model>/restore", models.ModelRestore.as_view(), name="api_model_restore"),
    path("models/<slug:model>/aliases/<str:alias>", models.AliasDetail.as_view(), name="api_alias_detail"),
    path("models/<slug:model>/policy", governance.PolicyDetail.as_view(), name="api_policy"),
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
    path(f"{_VERSION}/attestation", governance.VersionAttestation.as_view(), name="api_version_attestation"),
    path(f"{_VERSION}/lineage", governance.VersionLineage.as_view(), name="api_version_lineage"),
    path(f"{_VERSION}/revoke", governance.VersionRevoke.as_view(), name="api_version_revoke"),
    path(f"{_VERSION}/promotions", governance.PromotionList.as_view(), name="api_promotion_list"),
    path(f"{_PROMOTION}", governance.PromotionDetail.as_view(), name="api_promotion_detail"),
    path(f"{_PROMOTION}/approve", governance.PromotionApprove.as_view(), name="api_promotion_approve"),
    path(f"{_PROMOTION}/reject", governance.PromotionReject.as_view(), name="api_promotion_reject"),
    path(f"{_PROMOTION}/withdraw", governance.PromotionWithdraw.as_view(), name="api_promotion_withdraw"),
    path("promotions", governance.PromotionsOfOrganization.as_view(), name="api_promotions_of_organization"),
    path("uploads", uploads.UploadList.as_view(), name="api_upload_list"),
    path("uploads/<uuid:upload_id>", uploads.UploadDetail.as_view(), name="api_upload_detail"),
    path("storage", uploads.StorageDetail.as_view(), name="api_storage"),
    path("datasets", versions.DatasetList.as_view(), name="api_dataset_list"),
]
