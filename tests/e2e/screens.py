"""Every page a person can look at: its URL name, who looks, and (where one address has several faces) its query."""

from __future__ import annotations

from dataclasses import dataclass

from tests.url_rights import PAGES


@dataclass(frozen=True)
class Screen:
    name: str  # URL name, or a path
    who: str | None = "alice"  # None: signed out
    query: str = ""
    status: int = 200
    not_ours: tuple[str, ...] = ()  # parts drawn by others' code, which axe does not look into

    @property
    def label(self) -> str:
        """For file names and messages."""
        return (
            self.name.strip("/").replace("/", "-")
            + (f"-{self.who or 'nobody'}" if self.who != "alice" else "")
            + self.query.replace("?", "-")
        ).lower()


SIGNED_OUT = (
    "account_login", "account_signup", "account_reset_password", "account_reset_password_done", "account_reset_password_from_key",
    "account_reset_password_from_key_done", "account_confirm_email", "account_email_verification_sent", "account_inactive", "invitation_accept",
    "one_time_sign_in", "unsubscribe",
)  # fmt: skip
SIGNED_IN = (
    "account_settings", "account_email", "account_change_password", "account_logout", "account_reauthenticate", "mfa_index", "mfa_activate_totp",
    "organization_create", "invitation_accept",
    "org_home", "organization_settings", "member_list", "key_list", "audit_list", "runtime_status", "digest_settings", "digest_preview",
    "channel_list", "channel_detail", "channel_settings", "delivery_list", "delivery_detail", "notice_list",
    "model_list", "model_upload", "model_detail", "model_versions", "model_settings", "model_sharing", "project_list", "dataset_list", "promotion_list",
    "shared_list", "shared_detail", "source_list", "source_detail", "source_push", "source_settings",
    "version_detail", "version_validation", "version_edit", "version_schema",
    "deployment_list", "deployment_create", "deployment_detail", "deployment_traffic", "deployment_routing", "deployment_predictions", "deployment_prediction", "deployment_data", "deployment_deletion",
    "deployment_batches", "deployment_batch", "deployment_compare", "deployment_comparison",
    "deployment_baseline", "baseline_new_normal", "deployment_drift", "deployment_budget", "drift_check", "deployment_quality", "metric_create", "metric_change", "deployment_rules", "rule_change", "rule_create", "rule_backtest", "alert_list", "incident_list", "incident_detail",
    "deployment_retraining", "retraining_detail", "retraining_policy",
)  # fmt: skip
SCREENS = (
    *(Screen(name, who=None) for name in SIGNED_OUT),
    *(Screen(name) for name in SIGNED_IN),
    Screen("deployment_docs", not_ours=(".api-docs",)),  # Swagger UI
    Screen("/api/v1/docs/", who=None, not_ours=(".api-docs",)),
    Screen("/globex/", who="mallory"),  # the welcome of an organisation without a model
    Screen("model_list", query="?status=archived"),
    Screen("rule_create", query="?measure=psi"),
    Screen("rule_backtest", query="?rule=drift"),
    Screen("incident_list", query="?state="),
    Screen("deployment_detail", who="vic"),
    Screen("deployment_retraining", who="vic"),
    Screen("deployment_routing", who="vic"),
    Screen("deployment_list", who="vic"),
    Screen("/acme/models/nothing/", status=404),
    Screen("/nobody/", status=404),
    Screen("audit_list", who="vic", status=403),
)

# Addresses without a screen of their own, and why.
NOT_A_SCREEN = {
    **dict.fromkeys(("healthz", "readyz", "metrics", "signing_keys", "favicon"), "for machines"),
    **dict.fromkeys(
        (
            "audit_export",
            "deployment_baseline_columns",
            "deployment_quality_export",
            "delivery_export",
            "incident_export",
            "version_download",
            "version_attestation",
            "dataset_download",
            "mfa_download_recovery_codes",
            "deployment_batch_results",
            "deployment_traffic_export",
            "deployment_predictions_export",
            "deployment_archive",
            "deployment_deletion_certificate",
            "deployment_batch_failed",
            "deployment_drift_columns",
            "deployment_drift_history",
        ),
        "a download",
    ),
    **dict.fromkeys(("drift_report", "digest_preview_mail"), "shown in a sandboxed frame of another screen"),
    "bell_count": "a part of every screen",
    "home": "leads to an organisation's home",
    "deployment_retrain": "leads to the retraining page, whose button it is",
    **dict.fromkeys(("account_confirm_login_code", "account_set_password"), "leads elsewhere: not used here"),
    **dict.fromkeys(
        (
            "mfa_authenticate",
            "mfa_reauthenticate",
            "mfa_deactivate_totp",
            "mfa_generate_recovery_codes",
            "mfa_view_recovery_codes",
        ),
        "needs a second factor; see the journey of one",
    ),
}


def missing() -> set[str]:
    """Pages that can be looked at and are neither in SCREENS nor excused."""
    looks = {name for name, rights in PAGES.items() if "GET" in rights}
    return looks - {screen.name for screen in SCREENS} - set(NOT_A_SCREEN)
