import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0006_channels"),
        ("registry", "0008_shares"),
        ("serving", "0006_log_policy"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="RetrainingPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "enabled",
                    models.BooleanField(default=False, help_text="Whether incidents and the schedule begin runs."),
                ),
                (
                    "way",
                    models.CharField(
                        choices=[
                            ("webhook", "Call a webhook of mine"),
                            ("sandbox", "Run my train.py here, in the sandbox"),
                        ],
                        default="webhook",
                        max_length=10,
                    ),
                ),
                ("on_incident", models.BooleanField(default=True)),
                ("incident_kinds", models.JSONField(default=list, help_text="Of drift, quality.")),
                (
                    "schedule",
                    models.CharField(
                        blank=True,
                        choices=[("", "Never"), ("days", "Every so many days"), ("weekly", "On one day of the week")],
                        default="",
                        max_length=8,
                    ),
                ),
                ("every_days", models.PositiveSmallIntegerField(default=7)),
                ("weekday", models.PositiveSmallIntegerField(default=0, help_text="0 is Monday.")),
                ("hour", models.PositiveSmallIntegerField(default=3, help_text="UTC.")),
                ("next_at", models.DateTimeField(help_text="When the schedule's next run is due.", null=True)),
                ("url", models.CharField(blank=True, max_length=2000)),
                (
                    "secret_sealed",
                    models.TextField(blank=True, help_text="whsec_..., signs what is sent to the webhook."),
                ),
                (
                    "code",
                    models.CharField(
                        choices=[("bundle", "The bundle uploaded here"), ("version", "The live version's own archive")],
                        default="bundle",
                        max_length=8,
                    ),
                ),
                ("bundle_key", models.CharField(blank=True, max_length=300)),
                ("bundle_name", models.CharField(blank=True, max_length=200)),
                ("bundle_sha256", models.CharField(blank=True, max_length=64)),
                ("bundle_bytes", models.BigIntegerField(default=0)),
                ("minutes", models.PositiveIntegerField(default=30, help_text="The longest a training here may take.")),
                ("memory_mb", models.PositiveIntegerField(default=2048)),
                (
                    "days",
                    models.PositiveSmallIntegerField(
                        default=30, help_text="How far back the logged rows go that are handed out."
                    ),
                ),
                ("most_rows", models.PositiveIntegerField(default=50000)),
                (
                    "held_out_percent",
                    models.PositiveSmallIntegerField(
                        default=20,
                        help_text="Of logged rows: never handed out, so that candidates are judged on rows they have not seen.",
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[("propose", "Propose it: somebody decides"), ("promote", "Roll it out, guarded")],
                        default="propose",
                        max_length=10,
                    ),
                ),
                ("max_drop", models.FloatField(default=0.02, help_text="How much worse it may be on the reference.")),
                (
                    "min_gain",
                    models.FloatField(default=0.0, help_text="How much better it must be on recent labelled rows."),
                ),
                ("min_labels", models.PositiveIntegerField(default=50, help_text="Fewer labelled rows prove nothing.")),
                (
                    "max_change",
                    models.FloatField(
                        default=0.3,
                        help_text="Share of replayed rows that may be answered differently; not asked after drift.",
                    ),
                ),
                ("replay_rows", models.PositiveIntegerField(default=1000)),
                (
                    "bake_minutes",
                    models.PositiveIntegerField(default=10, help_text="Least time of each step of the rollout."),
                ),
                ("min_requests", models.PositiveIntegerField(default=100, help_text="Least requests of each step.")),
                ("cooldown_hours", models.PositiveIntegerField(default=24)),
                ("most_per_week", models.PositiveSmallIntegerField(default=3)),
                (
                    "quiet_hours",
                    models.PositiveIntegerField(
                        default=24,
                        help_text="An incident that began so soon after a promotion of this policy's begins no run.",
                    ),
                ),
                (
                    "candidate_days",
                    models.PositiveSmallIntegerField(
                        default=3, help_text="How long a candidate, or a decision, is waited for."
                    ),
                ),
                ("paused_at", models.DateTimeField(help_text="It has stopped itself.", null=True)),
                ("paused_reason", models.CharField(blank=True, max_length=500)),
                (
                    "counted_from",
                    models.DateTimeField(
                        default=mlops.core.clock.now, help_text="Failures before do not count against it."
                    ),
                ),
                ("note", models.CharField(blank=True, help_text="Why its last trigger began no run.", max_length=500)),
                ("noted_at", models.DateTimeField(null=True)),
                ("changed_at", models.DateTimeField(default=mlops.core.clock.now)),
                (
                    "changed_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "deployment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="retraining_policy",
                        to="serving.deployment",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "verbose_name": "retraining policy",
            },
        ),
        migrations.CreateModel(
            name="Retraining",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("training", "Training"),
                            ("waiting", "Waiting for a candidate"),
                            ("validating", "Validating"),
                            ("comparing", "Comparing"),
                            ("proposed", "Proposed"),
                            ("approval", "Waiting for approval"),
                            ("rolling_out", "Rolling out"),
                            ("promoted", "Promoted"),
                            ("rejected", "Rejected"),
                            ("failed", "Failed"),
                            ("timed_out", "Timed out"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=12,
                    ),
                ),
                ("revision", models.PositiveIntegerField(default=0)),
                (
                    "trigger",
                    models.CharField(
                        choices=[("incident", "Incident"), ("schedule", "Schedule"), ("hand", "By hand")], max_length=10
                    ),
                ),
                (
                    "reason",
                    models.JSONField(
                        default=dict, help_text="what, since, why, drift: for people and for the webhook."
                    ),
                ),
                ("terms", models.JSONField(default=dict)),
                ("metrics", models.JSONField(default=dict, help_text="What train() said of its own.")),
                (
                    "figures",
                    models.JSONField(
                        default=dict, help_text="reference, recent, replay, checks: candidate against champion."
                    ),
                ),
                ("steps", models.JSONField(default=list)),
                ("log", models.TextField(blank=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0, help_text="Of the step it is at.")),
                ("next_at", models.DateTimeField(default=mlops.core.clock.now, help_text="Not looked at before.")),
                ("due_at", models.DateTimeField(help_text="When the step it is at has taken too long.", null=True)),
                ("until", models.DateTimeField(help_text="Rows logged from here on are not handed out.")),
                ("ended_because", models.CharField(blank=True, max_length=500)),
                ("error", models.JSONField(null=True)),
                ("actor", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("moved_at", models.DateTimeField(default=mlops.core.clock.now)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "candidate",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retrainings",
                        to="registry.modelversion",
                    ),
                ),
                (
                    "champion",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="registry.modelversion"
                    ),
                ),
                (
                    "comparison",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="serving.comparison",
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "deployment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="retrainings", to="serving.deployment"
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="registry.environment",
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retrainings",
                        to="monitoring.incident",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "promotion",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="registry.promotion",
                    ),
                ),
                (
                    "rollout",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="serving.rollout"
                    ),
                ),
            ],
            options={
                "verbose_name": "retraining",
                "ordering": ("-pk",),
                "indexes": [
                    models.Index(fields=["deployment", "-id"], name="retraining_recent"),
                    models.Index(condition=models.Q(("ended_at", None)), fields=["next_at"], name="retraining_open"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("deployment",), name="retraining_one_open"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("incident__isnull", False)),
                        fields=("deployment", "incident"),
                        name="retraining_incident_once",
                    ),
                ],
            },
        ),
    ]
