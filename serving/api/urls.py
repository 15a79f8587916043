from django.urls import path

from serving.api import comparisons, deployments, log_data, predictions, shared, traffic

_LOG = "deployments/<slug:name>/log"
urlpatterns = [
    path("shared", shared.SharedList.as_view(), name="api_shared_list"),
    path("shared/<int:share_id>", shared.SharedDetail.as_view(), name="api_shared_detail"),
    path("shared/<int:share_id>/copy", shared.SharedCopy.as_view(), name="api_shared_copy"),
    path("deployments", deployments.DeploymentList.as_view(), name="api_deployment_list"),
    path("deployments/<slug:name>", deployments.DeploymentDetail.as_view(), name="api_deployment_detail"),
    path("deployments/<slug:name>/versions", deployments.DeploymentVersions.as_view(), name="api_deployment_versions"),
    path("deployments/<slug:name>/rollback", deployments.DeploymentRollback.as_view(), name="api_deployment_rollback"),
    path("deployments/<slug:name>/stop", deployments.DeploymentStop.as_view(), name="api_deployment_stop"),
    path("deployments/<slug:name>/start", deployments.DeploymentStart.as_view(), name="api_deployment_start"),
    path("deployments/<slug:name>/pause", deployments.DeploymentPause.as_view(), name="api_deployment_pause"),
    path("deployments/<slug:name>/resume", deployments.DeploymentResume.as_view(), name="api_deployment_resume"),
    path("deployments/<slug:name>/traffic", traffic.Traffic.as_view(), name="api_deployment_traffic"),
    path("deployments/<slug:name>/rollout", traffic.RolloutDetail.as_view(), name="api_rollout"),
    path("deployments/<slug:name>/rollouts", traffic.RolloutList.as_view(), name="api_rollout_list"),
    path("deployments/<slug:name>/rollout/<str:act>", traffic.RolloutAct.as_view(), name="api_rollout_act"),
    path("deployments/<slug:name>/shadows", traffic.ShadowList.as_view(), name="api_shadow_list"),
    path("deployments/<slug:name>/previews", traffic.PreviewList.as_view(), name="api_preview_list"),
    path("deployments/<slug:name>/previews/<slug:preview>", traffic.PreviewDetail.as_view(), name="api_preview_detail"),
    path("deployments/<slug:name>/analytics", predictions.Analytics.as_view(), name="api_deployment_analytics"),
    path(_LOG, log_data.LogPolicyDetail.as_view(), name="api_log_policy"),
    path(f"{_LOG}/archives", log_data.LogArchiveList.as_view(), name="api_log_archive_list"),
    path(f"{_LOG}/archives/<int:archive_id>", log_data.LogArchiveDetail.as_view(), name="api_log_archive"),
    path(f"{_LOG}/deletions", log_data.LogDeletionList.as_view(), name="api_log_deletion_list"),
    path(f"{_LOG}/deletions/<int:deletion_id>", log_data.LogDeletionDetail.as_view(), name="api_log_deletion"),
    path(
        f"{_LOG}/deletions/<int:deletion_id>/certificate",
        log_data.LogDeletionCertificate.as_view(),
        name="api_log_certificate",
    ),
    path(
        f"{_LOG}/deletions/<int:deletion_id>/<slug:act>", log_data.LogDeletionAct.as_view(), name="api_log_deletion_act"
    ),
    path(
        "deployments/<slug:name>/predictions/export",
        predictions.PredictionExport.as_view(),
        name="api_prediction_export",
    ),
    path("deployments/<slug:name>/predictions", predictions.PredictionList.as_view(), name="api_prediction_list"),
    path(
        "deployments/<slug:name>/predictions/<uuid:prediction_id>",
        predictions.PredictionDetail.as_view(),
        name="api_prediction_detail",
    ),
    path("deployments/<slug:name>/compare", comparisons.DeploymentCompare.as_view(), name="api_deployment_compare"),
    path("deployments/<slug:name>/comparisons", comparisons.ComparisonList.as_view(), name="api_comparison_list"),
    path(
        "deployments/<slug:name>/comparisons/<int:comparison_id>",
        comparisons.ComparisonDetail.as_view(),
        name="api_comparison_detail",
    ),
]
