import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mlops.core.clock
import mlops.core.ids


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0005_rules"),
        ("serving", "0006_log_policy"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="notification",
            name="payload",
            field=models.JSONField(db_default={}, default=dict, help_text="data of a webhook's message"),
        ),
        migrations.AddField(
            model_name="notification",
            name="severity",
            field=models.CharField(
                blank=True,
                choices=[("info", "Info"), ("warning", "Warning"), ("critical", "Critical")],
                db_default="",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="notification",
            name="type",
            field=models.CharField(blank=True, db_default="", help_text="e.g. incident.opened", max_length=40),
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("outcome", models.CharField(help_text="sent, put_off or failed", max_length=10)),
                (
                    "status",
                    models.PositiveSmallIntegerField(help_text="HTTP status; empty: no answer came.", null=True),
                ),
                ("duration_ms", models.PositiveIntegerField()),
                ("reply", models.TextField(blank=True, help_text="The beginning of the answer.")),
                ("error", models.TextField(blank=True)),
                (
                    "notification",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="tries", to="monitoring.notification"
                    ),
                ),
            ],
            options={
                "ordering": ("pk",),
            },
        ),
        migrations.CreateModel(
            name="BellNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(help_text="What it is about, e.g. incident:7.", max_length=120)),
                ("needs", models.CharField(help_text="The action whoever reads it must be allowed.", max_length=30)),
                (
                    "severity",
                    models.CharField(
                        choices=[("info", "Info"), ("warning", "Warning"), ("critical", "Critical")],
                        default="info",
                        max_length=10,
                    ),
                ),
                ("title", models.CharField(max_length=300)),
                ("text", models.TextField(blank=True)),
                ("path", models.CharField(blank=True, max_length=300)),
                ("at", models.DateTimeField(default=mlops.core.clock.now)),
                ("read_at", models.DateTimeField(blank=True, null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "ordering": ("-at", "-pk"),
            },
        ),
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.UUIDField(default=mlops.core.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("webhook", "Webhook"),
                            ("slack", "Slack"),
                            ("teams", "Microsoft Teams"),
                            ("discord", "Discord"),
                            ("ntfy", "ntfy"),
                            ("pagerduty", "PagerDuty"),
                        ],
                        max_length=12,
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                ("address_sealed", models.TextField()),
                ("place", models.CharField(help_text="The address without what is secret in it.", max_length=200)),
                ("secret_sealed", models.TextField(blank=True, help_text="webhook: signs; ntfy: the access token.")),
                ("previous_secret_sealed", models.TextField(blank=True)),
                ("previous_until", models.DateTimeField(blank=True, null=True)),
                ("all_deployments", models.BooleanField(default=True)),
                (
                    "least_severity",
                    models.CharField(
                        choices=[("info", "Info"), ("warning", "Warning"), ("critical", "Critical")],
                        default="info",
                        max_length=10,
                    ),
                ),
                ("events", models.JSONField(default=list, help_text="Values of Event.")),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
                ("disabled_reason", models.TextField(blank=True)),
                (
                    "refused",
                    models.BooleanField(
                        default=False, help_text="It was switched off because its receiver refuses."
                    ),
                ),
                ("last_ok_at", models.DateTimeField(blank=True, null=True)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("deployments", models.ManyToManyField(blank=True, related_name="+", to="serving.deployment")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ("name", "pk"),
            },
        ),
        migrations.AddField(
            model_name="notification",
            name="target",
            field=models.ForeignKey(
                blank=True,
                help_text="Empty: a mail to a person.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notifications",
                to="monitoring.channel",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["target", "-id"], name="notification_of_channel"),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["created_at"], name="notification_age"),
        ),
        migrations.AddIndex(
            model_name="bellnotice",
            index=models.Index(fields=["user", "organization", "-at"], name="bell_notice_recent"),
        ),
        migrations.AddIndex(
            model_name="bellnotice",
            index=models.Index(fields=["at"], name="bell_notice_age"),
        ),
        migrations.AddConstraint(
            model_name="bellnotice",
            constraint=models.UniqueConstraint(fields=("organization", "user", "key"), name="bell_notice_once"),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.UniqueConstraint(fields=("organization", "name"), name="channel_name_once"),
        ),
    ]
