from django.urls import path

from registry.views import governance, models, sharing, sources, upload, uploads, versions

_VERSION = "models/<slug:model>/versions/<int:number>"
_SOURCE = "sources/<uuid:source_id>"
_PROMOTION = f"{_VERSION}/promotions/<int:promotion_id>"

urlpatterns = [
    path("upload/", upload.model_upload, name="model_upload"),
    path("uploads/", uploads.upload_list, name="upload_list"),
    path("uploads/<uuid:upload_id>/", uploads.upload_detail, name="upload_detail"),
    path("models/", models.model_list, name="model_list"),
    path("models/<slug:model>/", models.model_detail, name="model_detail"),
    path("models/<slug:model>/versions/", models.model_versions, name="model_versions"),
    path("models/<slug:model>/settings/", models.model_settings, name="model_settings"),
    path("models/<slug:model>/archive/", models.model_archive, name="model_archive"),
    path("models/<slug:model>/restore/", models.model_restore, name="model_restore"),
    path("models/<slug:model>/policy/", governance.model_policy, name="model_policy"),
    path("models/<slug:model>/sharing/", sharing.model_sharing, name="model_sharing"),
    path("models/<slug:model>/sharing/<int:share_id>/revoke/", sharing.share_revoke, name="share_revoke"),
    path(f"{_VERSION}/", versions.version_detail, name="version_detail"),
    path(f"{_VERSION}/validation/", versions.version_validation, name="version_validation"),
    path(f"{_VERSION}/validate/", versions.version_validate, name="version_validate"),
    path(f"{_VERSION}/edit/", versions.version_edit, name="version_edit"),
    path(f"{_VERSION}/schema/", versions.version_schema, name="version_schema"),
    path(f"{_VERSION}/archive/", versions.version_archive, name="version_archive"),
    path(f"{_VERSION}/restore/", versions.version_restore, name="version_restore"),
    path(f"{_VERSION}/alias/", versions.version_alias, name="version_alias"),
    path(f"{_VERSION}/acceleration/", versions.version_acceleration, name="version_acceleration"),
    path(f"{_VERSION}/download/", versions.version_download, name="version_download"),
    path(f"{_VERSION}/datasets/<slug:kind>/", versions.dataset_download, name="dataset_download"),
    path(f"{_VERSION}/attestation/", governance.version_attestation, name="version_attestation"),
    path(f"{_VERSION}/promote/", governance.version_promote, name="version_promote"),
    path(f"{_VERSION}/revoke/", governance.version_revoke, name="version_revoke"),
    path(f"{_PROMOTION}/approve/", governance.promotion_approve, name="promotion_approve"),
    path(f"{_PROMOTION}/reject/", governance.promotion_reject, name="promotion_reject"),
    path(f"{_PROMOTION}/withdraw/", governance.promotion_withdraw, name="promotion_withdraw"),
    path("sources/", sources.source_list, name="source_list"),
    path(f"{_SOURCE}/", sources.source_detail, name="source_detail"),
    path(f"{_SOURCE}/settings/", sources.source_settings, name="source_settings"),
    path(f"{_SOURCE}/deploy/", sources.source_deploy, name="source_deploy"),
    path(f"{_SOURCE}/rotate/", sources.source_rotate, name="source_rotate"),
    path(f"{_SOURCE}/enable/", sources.source_enable, name="source_enable"),
    path(f"{_SOURCE}/disconnect/", sources.source_disconnect, name="source_disconnect"),
    path(f"{_SOURCE}/pushes/<int:push_id>/", sources.source_push, name="source_push"),
    path("promotions/", governance.promotion_list, name="promotion_list"),
    path("projects/", models.project_list, name="project_list"),
    path("datasets/", models.dataset_list, name="dataset_list"),
]
