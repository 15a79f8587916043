from django.urls import path

from monitoring.views import baselines, bell, budget, channels, deliveries, digests, drift, incidents, rules

_DEPLOYMENT = "deployments/<slug:name>"
_CHANNEL = "settings/channels/<uuid:channel_id>"

urlpatterns = [
    path(f"{_DEPLOYMENT}/baseline/", baselines.deployment_baseline, name="deployment_baseline"),
    path(
        f"{_DEPLOYMENT}/baseline/columns.csv", baselines.deployment_baseline_columns, name="deployment_baseline_columns"
    ),
    path(f"{_DEPLOYMENT}/baseline/new-normal/", baselines.baseline_new_normal, name="baseline_new_normal"),
    path(f"{_DEPLOYMENT}/baseline/undo/", baselines.baseline_undo, name="baseline_undo"),
    path(f"{_DEPLOYMENT}/drift/", drift.deployment_drift, name="deployment_drift"),
    path(f"{_DEPLOYMENT}/drift/columns.csv", drift.deployment_drift_columns, name="deployment_drift_columns"),
    path(f"{_DEPLOYMENT}/drift/history.csv", drift.deployment_drift_history, name="deployment_drift_history"),
    path(f"{_DEPLOYMENT}/drift/budget/", budget.deployment_budget, name="deployment_budget"),
    path(f"{_DEPLOYMENT}/drift/check/", drift.deployment_drift_check, name="deployment_drift_check"),
    path(f"{_DEPLOYMENT}/drift/simulate/", drift.deployment_drift_simulate, name="deployment_drift_simulate"),
    path(f"{_DEPLOYMENT}/drift/checks/<int:check_id>/", drift.drift_check, name="drift_check"),
    path(f"{_DEPLOYMENT}/drift/checks/<int:check_id>/report/", drift.drift_report, name="drift_report"),
    path(f"{_DEPLOYMENT}/rules/", rules.deployment_rules, name="deployment_rules"),
    path(f"{_DEPLOYMENT}/rules/new/", rules.rule_create, name="rule_create"),
    path(f"{_DEPLOYMENT}/rules/backtest/", rules.rule_backtest, name="rule_backtest"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>/", rules.rule_change, name="rule_change"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>/switch/", rules.rule_switch, name="rule_switch"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>/test/", rules.rule_test, name="rule_test"),
    path(f"{_DEPLOYMENT}/rules/<slug:rule>/delete/", rules.rule_delete, name="rule_delete"),
    path("alerts/", rules.alert_list, name="alert_list"),
    path("incidents/", incidents.incident_list, name="incident_list"),
    path("incidents/export/", incidents.incident_export, name="incident_export"),
    path("incidents/<int:incident_id>/", incidents.incident_detail, name="incident_detail"),
    path("incidents/<int:incident_id>/acknowledge/", incidents.incident_acknowledge, name="incident_acknowledge"),
    path("incidents/<int:incident_id>/snooze/", incidents.incident_snooze, name="incident_snooze"),
    path("incidents/<int:incident_id>/mute/", incidents.incident_mute, name="incident_mute"),
    path("incidents/<int:incident_id>/comment/", incidents.incident_comment, name="incident_comment"),
    path("incidents/<int:incident_id>/resolve/", incidents.incident_resolve, name="incident_resolve"),
    path("settings/channels/", channels.channel_list, name="channel_list"),
    path(f"{_CHANNEL}/", channels.channel_detail, name="channel_detail"),
    path(f"{_CHANNEL}/settings/", channels.channel_settings, name="channel_settings"),
    path(f"{_CHANNEL}/test/", channels.channel_test, name="channel_test"),
    path(f"{_CHANNEL}/enable/", channels.channel_enable, name="channel_enable"),
    path(f"{_CHANNEL}/rotate/", channels.channel_rotate, name="channel_rotate"),
    path(f"{_CHANNEL}/remove/", channels.channel_remove, name="channel_remove"),
    path("settings/deliveries/", deliveries.delivery_list, name="delivery_list"),
    path("settings/deliveries/export/", deliveries.delivery_export, name="delivery_export"),
    path("settings/deliveries/<int:delivery_id>/", deliveries.delivery_detail, name="delivery_detail"),
    path("settings/deliveries/<int:delivery_id>/again/", deliveries.delivery_redeliver, name="delivery_redeliver"),
    path("notifications/", bell.notice_list, name="notice_list"),
    path("notifications/count/", bell.bell_count, name="bell_count"),
    path("notifications/read/", bell.notice_read_all, name="notice_read_all"),
    path("notifications/<int:notice_id>/", bell.notice_open, name="notice_open"),
    path("settings/digest/", digests.digest_settings, name="digest_settings"),
    path("settings/digest/preview/", digests.digest_preview, name="digest_preview"),
    path("settings/digest/preview/mail/", digests.digest_preview_mail, name="digest_preview_mail"),
    path("unsubscribe/<str:token>/", digests.unsubscribe, name="unsubscribe"),
]
