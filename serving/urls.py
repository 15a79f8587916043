from django.urls import path

from serving.views import batches, comparisons, deployments, log_data, predictions, routing, runtime, shared, traffic

_BATCH = "deployments/<slug:name>/batches/<uuid:batch_id>/"
_DELETION = "deployments/<slug:name>/data/deletions/<int:deletion_id>/"
urlpatterns = [
    path("shared/", shared.shared_list, name="shared_list"),
    path("shared/<int:share_id>/", shared.shared_detail, name="shared_detail"),
    path("shared/<int:share_id>/copy/", shared.shared_copy, name="shared_copy"),
    path("deployments/", deployments.deployment_list, name="deployment_list"),
    path("deployments/new/", deployments.deployment_create, name="deployment_create"),
    path("deployments/<slug:name>/", deployments.deployment_detail, name="deployment_detail"),
    path("deployments/<slug:name>/deploy/", deployments.deployment_deploy, name="deployment_deploy"),
    path("deployments/<slug:name>/rollback/", deployments.deployment_rollback, name="deployment_rollback"),
    path("deployments/<slug:name>/limit/", deployments.deployment_limit, name="deployment_limit"),
    path("deployments/<slug:name>/stop/", deployments.deployment_stop, name="deployment_stop"),
    path("deployments/<slug:name>/start/", deployments.deployment_start, name="deployment_start"),
    path("deployments/<slug:name>/try/", deployments.deployment_try, name="deployment_try"),
    path("deployments/<slug:name>/why/", deployments.deployment_why, name="deployment_why"),
    path("deployments/<slug:name>/key/", deployments.deployment_key, name="deployment_key"),
    path("deployments/<slug:name>/docs/", deployments.deployment_docs, name="deployment_docs"),
    path("deployments/<slug:name>/samples/", deployments.deployment_samples, name="deployment_samples"),
    path("deployments/<slug:name>/pause/", routing.deployment_pause, name="deployment_pause"),
    path("deployments/<slug:name>/resume/", routing.deployment_resume, name="deployment_resume"),
    path("deployments/<slug:name>/routing/", routing.deployment_routing, name="deployment_routing"),
    path("deployments/<slug:name>/routing/shares/", routing.deployment_shares, name="deployment_shares"),
    path("deployments/<slug:name>/routing/rollout/", routing.deployment_rollout, name="deployment_rollout"),
    path(
        "deployments/<slug:name>/routing/rollout/<slug:act>/",
        routing.deployment_rollout_act,
        name="deployment_rollout_act",
    ),
    path("deployments/<slug:name>/routing/previews/", routing.deployment_preview, name="deployment_preview"),
    path(
        "deployments/<slug:name>/routing/previews/<slug:preview>/delete/",
        routing.deployment_preview_delete,
        name="deployment_preview_delete",
    ),
    path("deployments/<slug:name>/traffic/", traffic.deployment_traffic, name="deployment_traffic"),
    path(
        "deployments/<slug:name>/traffic/export/", traffic.deployment_traffic_export, name="deployment_traffic_export"
    ),
    path(
        "deployments/<slug:name>/predictions/export/",
        predictions.deployment_predictions_export,
        name="deployment_predictions_export",
    ),
    path("deployments/<slug:name>/data/", log_data.deployment_data, name="deployment_data"),
    path(
        "deployments/<slug:name>/data/archives/<int:archive_id>/",
        log_data.deployment_archive,
        name="deployment_archive",
    ),
    path("deployments/<slug:name>/data/deletions/", log_data.deployment_deletions, name="deployment_deletions"),
    path(_DELETION, log_data.deployment_deletion, name="deployment_deletion"),
    path(f"{_DELETION}certificate/", log_data.deployment_deletion_certificate, name="deployment_deletion_certificate"),
    path(f"{_DELETION}<slug:act>/", log_data.deployment_deletion_act, name="deployment_deletion_act"),
    path("deployments/<slug:name>/predictions/", predictions.deployment_predictions, name="deployment_predictions"),
    path(
        "deployments/<slug:name>/predictions/<uuid:prediction_id>/",
        predictions.deployment_prediction,
        name="deployment_prediction",
    ),
    path("deployments/<slug:name>/batches/", batches.deployment_batches, name="deployment_batches"),
    path(_BATCH, batches.deployment_batch, name="deployment_batch"),
    path(f"{_BATCH}results/", batches.deployment_batch_results, name="deployment_batch_results"),
    path(f"{_BATCH}failed/", batches.deployment_batch_failed, name="deployment_batch_failed"),
    path(f"{_BATCH}cancel/", batches.deployment_batch_cancel, name="deployment_batch_cancel"),
    path(f"{_BATCH}retry/", batches.deployment_batch_retry, name="deployment_batch_retry"),
    path("deployments/<slug:name>/compare/", comparisons.deployment_compare, name="deployment_compare"),
    path(
        "deployments/<slug:name>/compare/<int:comparison_id>/",
        comparisons.deployment_comparison,
        name="deployment_comparison",
    ),
    path("settings/runtime/", runtime.runtime_status, name="runtime_status"),
    path("settings/runtime/pin/", runtime.runtime_pin, name="runtime_pin"),
]
