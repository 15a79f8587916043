from django.urls import path

from monitoring.views import digests, drift, incidents, rules

_DEPLOYMENT = "deployments/<slug:name>"

urlpatterns = [
    path(f"{_DEPLOYMENT}/drift/", drift.deployment_drift, name="deployment_drift"),
    path(f"{_DEPLOYMENT}/drift/check/", drift.deployment_drift_check, name="deployment_drift_check"),
    path(f"{_DEPLOYMENT}/drift/simulate/", drift.deployment_drift_simulate, name="deployment_drift_simulate"),
    path(f"{_DEPLOYMENT}/drift/checks/<int:check_id>/", drift.drift_check, name="drift_check"),
    path(f"{_DEPLOYMENT}/drift/checks/<int:check_id>/report/", drift.drift_report, name="drift_report"),
    path(f"{_DEPLOYMENT}/rules/", rules.deployment_rules, name="deployment_rules"),
    path(f"{_DEPLOYMENT}/rules/<slug:kind>/", rules.rule_change, name="rule_change"),
    path("incidents/", incidents.incident_list, name="incident_list"),
    path("incidents/<int:incident_id>/", incidents.incident_detail, name="incident_detail"),
    path("incidents/<int:incident_id>/acknowledge/", incidents.incident_acknowledge, name="incident_acknowledge"),
    path("incidents/<int:incident_id>/snooze/", incidents.incident_snooze, name="incident_snooze"),
    path("incidents/<int:incident_id>/resolve/", incidents.incident_resolve, name="incident_resolve"),
    path("settings/digest/", digests.digest_settings, name="digest_settings"),
    path("settings/digest/preview/", digests.digest_preview, name="digest_preview"),
    path("settings/digest/preview/mail/", digests.digest_preview_mail, name="digest_preview_mail"),
    path("unsubscribe/<str:token>/", digests.unsubscribe, name="unsubscribe"),
]
