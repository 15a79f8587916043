from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import F, Q

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0007_governance"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="registeredmodel",
            name="shares_epoch",
            field=models.PositiveBigIntegerField(
                db_default=0,
                default=0,
                editable=False,
                help_text="Raised whenever it is shared or a share ends.",
            ),
        ),
        migrations.CreateModel(
            name="Share",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("rights", models.JSONField(help_text="Of read, predict and copy; read is always among them.")),
                ("actor", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_by", models.CharField(blank=True, max_length=200)),
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
                    "grantee",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="received_shares",
                        to="accounts.organization",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shares",
                        to="registry.registeredmodel",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        blank=True,
                        help_text="Empty: every ready version of the model, those to come, too.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shares",
                        to="registry.modelversion",
                    ),
                ),
            ],
            options={
                "ordering": ("-pk",),
                "indexes": [models.Index(fields=["grantee", "revoked_at"], name="share_received")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=Q(("revoked_at__isnull", True), ("version__isnull", True)),
                        fields=("model", "grantee"),
                        name="share_of_model_once",
                    ),
                    models.UniqueConstraint(
                        condition=Q(("revoked_at__isnull", True)),
                        fields=("version", "grantee"),
                        name="share_of_version_once",
                    ),
                    models.CheckConstraint(
                        condition=Q(("grantee", F("organization")), _negated=True), name="share_with_another"
                    ),
                ],
            },
        ),
    ]
