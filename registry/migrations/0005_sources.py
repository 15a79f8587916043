from __future__ import annotations

import django.db.models.deletion
import mlops.core.clock
import mlops.core.ids
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_limits"),
        ("jobs", "0001_initial"),
        ("registry", "0004_environments"),
    ]

    operations = [
        migrations.CreateModel(
            name="Source",
            fields=[
                (
                    "id",
                    models.UUIDField(default=mlops.core.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "kind",
                    models.CharField(choices=[("github", "GitHub"), ("generic", "Any git server")], max_length=10),
                ),
                (
                    "model",
                    models.SlugField(
                        help_text="The model's name in addresses; made with the first push.", max_length=63
                    ),
                ),
                ("deployment", models.SlugField(help_text="Made live by the production branch.", max_length=63)),
                ("clone_url", models.CharField(max_length=300)),
                ("branch", models.CharField(help_text="The production branch.", max_length=200)),
                (
                    "folder",
                    models.CharField(
                        blank=True, help_text="Of the model within the repository; empty: all.", max_length=300
                    ),
                ),
                (
                    "previews",
                    models.BooleanField(default=True, help_text="Other branches and pull requests get a preview."),
                ),
                ("token_user", models.CharField(blank=True, default="x-access-token", max_length=100)),
                ("token_sealed", models.TextField(blank=True)),
                (
                    "app_id",
                    models.CharField(blank=True, help_text="Of a GitHub App, instead of a token.", max_length=40),
                ),
                ("installation_id", models.CharField(blank=True, max_length=40)),
                ("app_key_sealed", models.TextField(blank=True)),
                ("secret_sealed", models.TextField()),
                ("previous_secret_sealed", models.TextField(blank=True)),
                ("previous_until", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
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
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="SourceDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("delivery_id", models.CharField(max_length=200)),
                ("event", models.CharField(max_length=40)),
                ("outcome", models.CharField(max_length=200)),
                ("received_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="registry.source"
                    ),
                ),
            ],
            options={
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="SourcePush",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "sha",
                    models.CharField(
                        blank=True, help_text="Empty until the branch's head has been asked for.", max_length=64
                    ),
                ),
                (
                    "ref",
                    models.CharField(
                        help_text="refs/heads/... or refs/pull/.../head: where the commit is fetched.", max_length=250
                    ),
                ),
                ("branch", models.CharField(max_length=200)),
                ("pull_request", models.PositiveIntegerField(blank=True, null=True)),
                ("message", models.TextField(blank=True, help_text="Of the commit, as the webhook told it.")),
                ("author", models.CharField(blank=True, max_length=200)),
                ("production", models.BooleanField(help_text="Goes live; else it gets a preview.")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("fetching", "Fetching"),
                            ("validating", "Validating"),
                            ("deploying", "Deploying"),
                            ("waiting", "Waiting for production"),
                            ("live", "Live"),
                            ("failed", "Failed"),
                            ("superseded", "Superseded"),
                            ("closed", "Closed"),
                        ],
                        default="queued",
                        max_length=12,
                    ),
                ),
                ("preview", models.CharField(blank=True, help_text="The preview's name.", max_length=63)),
                (
                    "error",
                    models.JSONField(blank=True, help_text="code, detail, hint: why it failed, or waits.", null=True),
                ),
                (
                    "comment_id",
                    models.PositiveBigIntegerField(blank=True, help_text="Of the pull request's comment.", null=True),
                ),
                (
                    "report",
                    models.JSONField(
                        blank=True, help_text="What was told to the git server, and the parts of it.", null=True
                    ),
                ),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("fetched_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
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
                    "job",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="jobs.job"
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="pushes", to="registry.source"
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="pushes",
                        to="registry.modelversion",
                    ),
                ),
            ],
            options={
                "verbose_name": "push",
                "verbose_name_plural": "pushes",
                "ordering": ("-pk",),
            },
        ),
        migrations.AddConstraint(
            model_name="source",
            constraint=models.UniqueConstraint(fields=("organization", "deployment"), name="source_deployment_once"),
        ),
        migrations.AddIndex(
            model_name="sourcedelivery",
            index=models.Index(fields=["received_at"], name="source_delivery_age"),
        ),
        migrations.AddConstraint(
            model_name="sourcedelivery",
            constraint=models.UniqueConstraint(fields=("source", "delivery_id"), name="source_delivery_once"),
        ),
        migrations.AddIndex(
            model_name="sourcepush",
            index=models.Index(fields=["source", "branch", "-id"], name="source_push_of_branch"),
        ),
        migrations.AddConstraint(
            model_name="sourcepush",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("status__in", ("queued", "fetching", "validating", "deploying", "waiting", "live")),
                    models.Q(("sha", ""), _negated=True),
                ),
                fields=("source", "branch", "sha"),
                name="source_push_active_once",
            ),
        ),
    ]
