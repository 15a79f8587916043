from django.urls import path

from monitoring.api import baselines, channels, drift, incidents, quality, retraining, rules

_DEPLOYMENT = "deployments/<slug:name>"
_RETRAINING = "retrainings/<int:retraining_id>"

urlpatterns = [
    path(f"{_DEPLOYMENT}/baseline", baselines.BaselineDetail.as_view(), name="api_baseline"),
    path(
        f"{_DEPLOYMENT}/baseline/new-normal",
        baselines.BaselineNewNormal.as_view(),
        name="api_baseline_new_normal",
    ),
    path(f"{_DEPLOYMENT}/baseline/undo", baselines.BaselineUndo.as_view(), name="api_baseline_undo"),
    path(f"{_DEPLOYMENT}/drift", drift.Drift.as_view(), name="api_drift"),
    path(f"{_DEPLOYMENT}/drift/policy", drift.DriftPolicy.as_view(), name="api_drift_policy"),
    path(f"{_DEPLOYMENT}/drift/check", drift.DriftCheckNow.as_view(), name="api_drift_check"),
    path(f"{_DEPLOYMENT}/drift/checks", drift.DriftHistory.as_view(), name="api_drift_history"),
    path(f"{_DEPLOYMENT}/quality", quality.QualityView.as_view(), name="api_quality"),
    path(f"{_DEPLOYMENT}/metrics", quality.MetricList.as_view(), name="api_metric_list"),
    path(f"{_DEPLOYMENT}/metrics/try", quality.MetricTry.as_view(), name="api_metric_try"),
    path(f"{_DEPLOYMENT}/metrics/<slug:metric>", quality.MetricDetail.as_view(), name="api_metric_detail"),
    path(f"{_DEPLOYMENT}/rules", rules.RuleList.as_view(), name="api_rule_list"),
    path(f"{_DEPLOYMENT}/rules/backtest", rules.RuleBacktest.as_view(), name="api_rule_backtest"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>", rules.RuleDetail.as_view(), name="api_rule_detail"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>/test", rules.RuleTest.as_view(), name="api_rule_test"),
    path(f"{_DEPLOYMENT}/measures", rules.MeasureList.as_view(), name="api_measure_list"),
    path("incidents", incidents.IncidentList.as_view(), name="api_incident_list"),
    path("incidents/<int:incident_id>", incidents.IncidentDetail.as_view(), name="api_incident_detail"),
    path(
        "incidents/<int:incident_id>/acknowledge",
        incidents.IncidentAcknowledge.as_view(),
        name="api_incident_acknowledge",
    ),
    path("incidents/<int:incident_id>/snooze", incidents.IncidentSnooze.as_view(), name="api_incident_snooze"),
    path("incidents/<int:incident_id>/mute", incidents.IncidentMute.as_view(), name="api_incident_mute"),
    path("incidents/<int:incident_id>/events", incidents.IncidentEvents.as_view(), name="api_incident_events"),
    path("incidents/<int:incident_id>/comments", incidents.IncidentComment.as_view(), name="api_incident_comment"),
    path("incidents/<int:incident_id>/resolve", incidents.IncidentResolve.as_view(), name="api_incident_resolve"),
    path("channels", channels.ChannelList.as_view(), name="api_channel_list"),
    path("channels/<uuid:channel_id>", channels.ChannelDetail.as_view(), name="api_channel_detail"),
    path("channels/<uuid:channel_id>/rotate", channels.ChannelRotate.as_view(), name="api_channel_rotate"),
    path("channels/<uuid:channel_id>/test", channels.ChannelTest.as_view(), name="api_channel_test"),
    path("deliveries", channels.DeliveryList.as_view(), name="api_delivery_list"),
    path("deliveries/<int:delivery_id>", channels.DeliveryDetail.as_view(), name="api_delivery_detail"),
    path("deliveries/<int:delivery_id>/redeliver", channels.DeliveryRedeliver.as_view(), name="api_delivery_redeliver"),
    path(f"{_DEPLOYMENT}/retraining", retraining.RetrainingPolicyView.as_view(), name="api_retraining_policy"),
    path(f"{_DEPLOYMENT}/retraining/secret", retraining.RetrainingSecret.as_view(), name="api_retraining_secret"),
    path(f"{_DEPLOYMENT}/retraining/bundle", retraining.RetrainingBundle.as_view(), name="api_retraining_bundle"),
    path(f"{_DEPLOYMENT}/retraining/resume", retraining.RetrainingResume.as_view(), name="api_retraining_resume"),
    path(f"{_DEPLOYMENT}/retrainings", retraining.RetrainingList.as_view(), name="api_retraining_list"),
    path(f"{_RETRAINING}", retraining.RetrainingDetail.as_view(), name="api_retraining_detail"),
    path(f"{_RETRAINING}/promote", retraining.RetrainingPromote.as_view(), name="api_retraining_promote"),
    path(f"{_RETRAINING}/reject", retraining.RetrainingReject.as_view(), name="api_retraining_reject"),
    path(f"{_RETRAINING}/cancel", retraining.RetrainingCancel.as_view(), name="api_retraining_cancel"),
    path(f"{_RETRAINING}/data/<str:file>", retraining.RetrainingData.as_view(), name="api_retraining_data"),
    path(f"{_RETRAINING}/candidate", retraining.RetrainingCandidate.as_view(), name="api_retraining_candidate"),
]
