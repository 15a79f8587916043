"""Who may do what at every address of the product: URL name -> method -> what it needs. ``tests.test_every_url`` walks it.

A need is an action of ``accounts.roles.ACTIONS`` (role and key scope follow from it), or one of the words below. A method that
is not named is not allowed there.
"""

from __future__ import annotations

PUBLIC = "public"  # anybody; the address or a token in it is the permission
PERSON = "person"  # anybody who is signed in, about themselves
DESCRIBE = "describe"  # a viewer; a key with predict or read
BEARER = "bearer"  # any living key or access token
OWN = "own "  # and an action: in the caller's own organisation, whichever that is

Rights = dict[str, dict[str, str]]


def _get(need: str, *names: str) -> Rights:
    return {name: {"GET": need} for name in names}


def _post(need: str, *names: str) -> Rights:
    return {name: {"POST": need} for name in names}


def _form(look: str, send: str, *names: str) -> Rights:
    return {name: {"GET": look, "POST": send} for name in names}


PAGES: Rights = {
    **_get(PUBLIC, "healthz", "readyz", "metrics", "signing_keys", "favicon"),
    # accounts: allauth's own pages, and ours about a person
    **_form(
        PUBLIC, PUBLIC, "account_login", "account_logout", "account_signup", "account_reset_password", "account_reset_password_from_key",
        "account_confirm_email", "account_confirm_login_code", "one_time_sign_in", "unsubscribe", "invitation_accept",
    ),
    **_get(PUBLIC, "account_inactive", "account_email_verification_sent", "account_reset_password_done", "account_reset_password_from_key_done"),
    **_form(
        PERSON, PERSON, "account_email", "account_change_password", "account_set_password", "account_reauthenticate", "mfa_authenticate",
        "mfa_reauthenticate", "mfa_activate_totp", "mfa_deactivate_totp", "mfa_generate_recovery_codes", "organization_create", "account_settings",
    ),
    **_get(PERSON, "mfa_index", "mfa_view_recovery_codes", "mfa_download_recovery_codes", "home"),
    # an organisation
    **_get("org.view", "org_home", "digest_preview", "digest_preview_mail"),
    **_form("org.view", "org.view", "digest_settings"),
    **_form("org.view", "org.manage", "organization_settings"),
    **_post("org.view", "organization_leave"),
    **_form("members.view", "members.manage", "member_list"),
    **_post("members.manage", "member_role", "member_remove", "invitation_resend", "invitation_revoke"),
    **_form("keys.view", "keys.manage", "key_list"),
    **_post("keys.manage", "key_limit", "key_revoke", "key_rotate"),
    **_get("audit.view", "audit_list", "audit_export"),
    **_get("org.manage", "runtime_status"),
    **_post("org.manage", "runtime_pin"),
    # registry
    **_get("model.view", "model_list", "model_detail", "model_versions", "version_detail", "version_validation"),
    **_form("model.view", "model.write", "version_schema", "project_list"),
    **_form("model.write", "model.write", "model_upload", "model_settings", "version_edit"),
    **_post("model.write", "upload_list"),
    "upload_detail": {"PATCH": "model.write", "DELETE": "model.write"},
    **_post("model.write", "push_sample", "version_validate", "version_alias", "version_acceleration"),
    **_post("model.archive", "model_archive", "model_restore", "version_archive", "version_restore"),
    **_form("model.view", "model.share", "model_sharing"),
    **_post("model.share", "share_revoke"),
    **_get("model.view", "shared_list", "shared_detail"),
    **_post("model.write", "shared_copy"),
    **_get("version.download", "version_download"),
    **_get("model.view", "version_attestation", "promotion_list"),
    **_post("model.write", "version_promote", "promotion_withdraw"),
    **_post("version.approve", "promotion_approve", "promotion_reject"),
    **_post("version.revoke", "version_revoke"),
    **_post("org.manage", "model_policy"),
    **_get("dataset.view", "dataset_download", "dataset_list"),
    **_form("source.view", "source.manage", "source_list"),
    **_get("source.view", "source_detail", "source_push"),
    **_form("source.manage", "source.manage", "source_settings"),
    **_post("source.manage", "source_rotate", "source_enable", "source_disconnect"),
    **_post("deployment.write", "source_deploy"),
    # serving
    **_get("deployment.view", "deployment_list", "deployment_detail", "deployment_docs", "deployment_traffic", "deployment_routing"),
    **_post("deployment.write", "deployment_pause", "deployment_resume", "deployment_shares", "deployment_rollout", "deployment_rollout_act", "deployment_preview", "deployment_preview_delete"),
    **_form("deployment.write", "deployment.write", "deployment_create"),
    **_post("deployment.write", "deployment_deploy", "deployment_rollback", "deployment_limit", "deployment_stop", "deployment_start", "deployment_samples"),
    **_post("deployment.predict", "deployment_try", "deployment_why"),
    **_form("deployment.view", "deployment.predict", "deployment_batches"),
    **_get("logs.view", "deployment_batch", "deployment_batch_results", "deployment_batch_failed"),  # and whoever sent the file
    **_post("deployment.write", "deployment_batch_cancel", "deployment_batch_retry"),
    **_form("logs.view", "deployment.write", "deployment_compare"),
    **_get("logs.view", "deployment_comparison"),
    **_post("keys.manage", "deployment_key"),
    **_get("logs.view", "deployment_predictions", "deployment_prediction", "deployment_predictions_export"),
    **_get("deployment.view", "deployment_traffic_export"),
    **_form("logs.view", "deployment.write", "deployment_data"),
    **_get("logs.view", "deployment_archive", "deployment_deletion", "deployment_deletion_certificate"),
    **_post("logs.delete", "deployment_deletions", "deployment_deletion_act"),
    # monitoring
    **_get("deployment.view", "deployment_drift_columns", "deployment_drift_history"),
    **_form("deployment.view", "rule.write", "deployment_budget"),
    **_get("deployment.view", "deployment_drift", "drift_check", "drift_report", "deployment_rules", "rule_backtest", "alert_list"),
    **_get("deployment.view", "deployment_baseline", "deployment_baseline_columns"),
    **_form("drift.check", "drift.check", "baseline_new_normal"),
    **_post("drift.check", "baseline_undo"),
    **_get("deployment.view", "deployment_quality", "deployment_quality_export"),
    **_post("deployment.predict", "quality_feedback", "prediction_feedback"),
    **_form("rule.write", "rule.write", "metric_create", "metric_change"),
    **_post("rule.write", "metric_delete"),
    **_post("drift.check", "deployment_drift_check", "deployment_drift_simulate"),
    **_form("rule.write", "rule.write", "rule_create"),
    **_form("deployment.view", "rule.write", "rule_change"),
    **_post("rule.write", "rule_switch", "rule_test", "rule_delete"),
    **_form("channel.view", "channel.manage", "channel_list"),
    **_get("channel.view", "channel_detail", "delivery_list", "delivery_export", "delivery_detail"),
    **_form("channel.manage", "channel.manage", "channel_settings"),
    **_post("channel.manage", "channel_test", "channel_enable", "channel_rotate", "channel_remove", "delivery_redeliver"),
    **_get("org.view", "notice_list", "bell_count"),
    **_post("org.view", "notice_open", "notice_read_all"),
    **_get("deployment.view", "deployment_retraining", "retraining_detail"),
    **_form("deployment.write", "deployment.write", "retraining_policy", "deployment_retrain"),
    **_post(
        "deployment.write", "retraining_secret", "retraining_bundle", "retraining_resume", "retraining_promote",
        "retraining_reject", "retraining_cancel",
    ),
    **_get("incident.view", "incident_list", "incident_detail", "incident_export"),
    **_post("incident.act", "incident_acknowledge", "incident_snooze", "incident_mute", "incident_comment", "incident_resolve"),
}  # fmt: skip

API: Rights = {
    **_get(PUBLIC, "api_schema", "api_docs"),
    **_get(PUBLIC, "api_retraining_data"),  # a token of the run is the permission
    **_post(PUBLIC, "api_retraining_candidate"),
    **_post(PUBLIC, "api_auth_register", "api_auth_login", "api_auth_refresh", "api_auth_logout"),
    **_get(BEARER, "api_auth_me"),
    # accounts
    **_form("keys.view", "keys.manage", "api_key_list"),
    "api_key_detail": {"PATCH": "keys.manage", "DELETE": "keys.manage"},
    **_post("keys.manage", "api_key_rotate"),
    **_form("members.view", "members.manage", "api_member_list"),
    "api_member_detail": {"PATCH": "members.manage", "DELETE": "members.manage"},
    **_form("members.manage", "members.manage", "api_invitation_list"),
    "api_invitation_detail": {"DELETE": "members.manage"},
    **_post("members.manage", "api_invitation_resend"),
    **_get("audit.view", "api_audit_list"),
    **_get("job.view", "api_job_list", "api_job_detail"),
    **_post("model.write", "api_job_retry"),
    # registry
    **_form("model.view", "model.write", "api_project_list", "api_model_list", "api_version_list"),
    "api_project_detail": {"GET": "model.view", "PATCH": "model.write"},
    "api_model_detail": {"GET": "model.view", "PATCH": "model.write"},
    "api_version_detail": {"GET": "model.view", "PATCH": "model.write"},
    "api_alias_detail": {"PUT": "model.write", "DELETE": "model.write"},
    **_post("model.archive", "api_model_archive", "api_model_restore", "api_version_archive", "api_version_restore"),
    **_get("model.view", "api_version_schema"),
    **_post("model.write", "api_version_validate"),
    **_form("model.view", "model.share", "api_share_list"),
    "api_share_detail": {"DELETE": "model.share"},
    **_get("model.view", "api_shared_list", "api_shared_detail"),
    **_post("model.write", "api_shared_copy"),
    **_get("version.download", "api_version_download"),
    "api_policy": {"GET": "model.view", "PUT": "org.manage"},
    **_get(
        "model.view",
        "api_version_attestation",
        "api_version_lineage",
        "api_promotion_detail",
        "api_promotions_of_organization",
    ),
    **_form("model.view", "model.write", "api_promotion_list"),
    **_form("model.view", "version.revoke", "api_version_revoke"),
    **_post("version.approve", "api_promotion_approve", "api_promotion_reject"),
    **_post("model.write", "api_promotion_withdraw"),
    **_get("dataset.view", "api_dataset_download", "api_dataset_list"),
    "api_upload_list": {"GET": "model.write", "POST": "model.write"},
    "api_upload_detail": {"GET": "model.write", "PATCH": "model.write", "DELETE": "model.write"},
    **_get("org.view", "api_storage"),
    **_post(PUBLIC, "source_hook"),  # the signature of its body is the permission
    **_form("source.view", "source.manage", "api_source_list"),
    "api_source_detail": {"GET": "source.view", "PATCH": "source.manage", "DELETE": "source.manage"},
    **_post("source.manage", "api_source_rotate"),
    **_get("source.view", "api_source_pushes"),
    **_post("deployment.write", "api_source_deploy"),
    # serving
    **_post("deployment.predict", "predict_explain", "predict"),
    **_form("deployment.predict", "deployment.predict", "predict_batch"),
    **_get(
        "logs.view", "predict_batch_run", "predict_batch_results", "predict_batch_failed"
    ),  # and whoever sent the file
    **_post("deployment.write", "predict_batch_cancel"),
    **_get(DESCRIBE, "predict_schema", "predict_openapi", "predict_docs"),
    **_form("deployment.view", "deployment.write", "api_deployment_list"),
    "api_deployment_detail": {"GET": "deployment.view", "PATCH": "deployment.write"},
    **_get("deployment.view", "api_deployment_analytics", "api_shadow_list", "api_rollout_list"),
    **_post("deployment.predict", "predict_preview"),
    "api_deployment_traffic": {"PUT": "deployment.write"},
    **_form("deployment.view", "deployment.write", "api_rollout", "api_preview_list"),
    **_post("deployment.write", "api_rollout_act", "api_deployment_pause", "api_deployment_resume"),
    "api_preview_detail": {"GET": "deployment.view", "DELETE": "deployment.write"},
    **_post(
        "deployment.write",
        "api_deployment_versions",
        "api_deployment_rollback",
        "api_deployment_stop",
        "api_deployment_start",
    ),
    **_post("deployment.write", "api_deployment_compare"),
    **_get("logs.view", "api_comparison_list", "api_comparison_detail"),
    **_get("logs.view", "api_prediction_list", "api_prediction_detail", "api_prediction_export"),
    "api_log_policy": {"GET": "logs.view", "PATCH": "deployment.write"},
    **_get("logs.view", "api_log_archive_list", "api_log_archive", "api_log_deletion", "api_log_certificate"),
    **_form("logs.view", "logs.delete", "api_log_deletion_list"),
    **_post("logs.delete", "api_log_deletion_act"),
    # monitoring
    **_get("deployment.view", "api_quality"),
    "api_metric_list": {"GET": "deployment.view", "POST": "rule.write"},
    **_post("rule.write", "api_metric_try"),
    "api_metric_detail": {"GET": "deployment.view", "PATCH": "rule.write", "DELETE": "rule.write"},
    **_post("deployment.predict", "predict_feedback"),
    **_get("deployment.view", "api_drift", "api_drift_history", "api_measure_list"),
    **_form("deployment.view", "rule.write", "api_rule_list"),
    **_post("deployment.view", "api_rule_backtest"),  # it stores nothing
    **_post("rule.write", "api_rule_test"),
    **_get("deployment.view", "api_baseline"),
    **_form("deployment.view", "drift.check", "api_baseline_new_normal"),
    **_post("drift.check", "api_baseline_undo"),
    "api_drift_policy": {"GET": "deployment.view", "PATCH": "rule.write"},
    **_post("drift.check", "api_drift_check"),
    "api_rule_detail": {"GET": "deployment.view", "PATCH": "rule.write", "DELETE": "rule.write"},
    **_form("channel.view", "channel.manage", "api_channel_list"),
    "api_channel_detail": {"GET": "channel.view", "PATCH": "channel.manage", "DELETE": "channel.manage"},
    **_post("channel.manage", "api_channel_rotate", "api_channel_test", "api_delivery_redeliver"),
    **_get("channel.view", "api_delivery_list", "api_delivery_detail"),
    "api_retraining_policy": {"GET": "logs.view", "PATCH": "deployment.write"},
    "api_retraining_list": {"GET": "deployment.view", "POST": "deployment.write"},
    **_get("deployment.view", "api_retraining_detail"),
    **_post(
        "deployment.write",
        "api_retraining_secret",
        "api_retraining_bundle",
        "api_retraining_resume",
        "api_retraining_promote",
        "api_retraining_reject",
        "api_retraining_cancel",
    ),
    **_get("incident.view", "api_incident_list", "api_incident_detail", "api_incident_events"),
    **_post(
        "incident.act",
        "api_incident_acknowledge",
        "api_incident_snooze",
        "api_incident_mute",
        "api_incident_comment",
        "api_incident_resolve",
    ),
}
# Other servers' protocols: for the organisation of the key, and below one's name. Their refusals read as each of them says it.
DIALECTS: Rights = {
    **_get(DESCRIBE, "mlflow_ping", "mlflow_health", "mlflow_version"),
    **_post("deployment.predict", "mlflow_invocations"),
    **_get(BEARER, "v2_models", "v1_models"),
    **_get(DESCRIBE, "org_v2_models", "org_v1_models"),
    **_post(f"{OWN}deployment.load", "v2_repository_index"),
    **_post("deployment.load", "org_v2_repository_index"),
    "protocol_unknown": {},
}
for _place in ("", "org_"):
    DIALECTS |= {
        **_get(PUBLIC, *(f"{_place}v2_{name}" for name in ("server", "server_slash", "live", "ready"))),
        **_get(DESCRIBE, *(f"{_place}v2_{name}" for name in ("model", "model_ready", "version", "version_ready"))),
        **_get(DESCRIBE, f"{_place}v1_model"),
        **_post(
            "deployment.predict",
            *(f"{_place}{name}" for name in ("v2_infer", "v2_version_infer", "v1_predict", "v1_explain")),
        ),
        **_post("deployment.load", *(f"{_place}v2_repository_{name}" for name in ("load", "unload"))),
    }
RIGHTS: Rights = {**PAGES, **API, **DIALECTS}
