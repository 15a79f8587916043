from __future__ import annotations

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0006_uploads"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="revoked_at",
            field=models.DateTimeField(blank=True, help_text="Never loaded again from then on.", null=True),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="revoked_reason",
            field=models.CharField(blank=True, db_default="", default="", max_length=500),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="stage",
            field=models.CharField(
                choices=[("dev", "Dev"), ("staging", "Staging"), ("production", "Production")],
                db_default="dev",
                default="dev",
                help_text="For lists. What counts is the signed promotion: registry.services.promotions.",
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="Promotion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "from_stage",
                    models.CharField(
                        choices=[("dev", "Dev"), ("staging", "Staging"), ("production", "Production")], max_length=10
                    ),
                ),
                (
                    "to_stage",
                    models.CharField(
                        choices=[("dev", "Dev"), ("staging", "Staging"), ("production", "Production")], max_length=10
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("requested", "Waiting for approval"),
                            ("approved", "Approved"),
                            ("rejected", "Rejected"),
                            ("withdrawn", "Withdrawn"),
                            ("revoked", "Revoked"),
                        ],
                        default="requested",
                        max_length=10,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500)),
                (
                    "facts_sha256",
                    models.CharField(
                        help_text="Of what the version's signature binds: another file is another promotion.",
                        max_length=64,
                    ),
                ),
                ("envelope", models.JSONField(help_text="DSSE, once approved.", null=True)),
                ("requester", models.CharField(max_length=200)),
                ("requested_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "requested_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="promotions",
                        to="registry.modelversion",
                    ),
                ),
            ],
            options={
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="Approval",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(help_text="As it was; the person may be gone.", max_length=200)),
                ("ref", models.CharField(help_text="user:<id>, whoever's key it was done with.", max_length=40)),
                (
                    "verdict",
                    models.CharField(choices=[("approved", "Approved"), ("rejected", "Rejected")], max_length=10),
                ),
                ("comment", models.CharField(blank=True, max_length=500)),
                ("facts_sha256", models.CharField(max_length=64)),
                ("at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "promotion",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="approvals", to="registry.promotion"
                    ),
                ),
            ],
            options={
                "ordering": ("pk",),
            },
        ),
        migrations.CreateModel(
            name="PromotionPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "staging_approvals",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="How many people must approve; 0: nobody.",
                        validators=[django.core.validators.MaxValueValidator(10)],
                    ),
                ),
                (
                    "production_approvals",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="How many people must approve; 0: nobody.",
                        validators=[django.core.validators.MaxValueValidator(10)],
                    ),
                ),
                (
                    "author_may_approve",
                    models.BooleanField(
                        default=False,
                        help_text="Whether who pushed the version, or asked for the promotion, counts too.",
                    ),
                ),
                (
                    "approver_role",
                    models.CharField(
                        choices=[("developer", "Developer"), ("admin", "Admin"), ("owner", "Owner")],
                        default="admin",
                        help_text="The least role of who approves.",
                        max_length=10,
                    ),
                ),
                (
                    "required_checks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Checks of the validation that must have passed without a warning.",
                    ),
                ),
                (
                    "places",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="Deployment -> dev or staging. Every other one is production.",
                    ),
                ),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "model",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="promotion_policy",
                        to="registry.registeredmodel",
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
                "verbose_name": "promotion policy",
            },
        ),
        migrations.CreateModel(
            name="Parent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "parent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="children", to="registry.modelversion"
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="parents", to="registry.modelversion"
                    ),
                ),
            ],
            options={
                "ordering": ("pk",),
                "constraints": [
                    models.UniqueConstraint(fields=("version", "parent"), name="parent_once"),
                    models.CheckConstraint(
                        condition=models.Q(("parent__lt", models.F("version"))), name="parent_is_older"
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="promotion",
            index=models.Index(fields=["organization", "state"], name="promotion_waiting"),
        ),
        migrations.AddConstraint(
            model_name="promotion",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "requested")), fields=("version", "to_stage"), name="promotion_open_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="promotion",
            constraint=models.CheckConstraint(
                condition=models.Q(("to_stage", "dev"), _negated=True), name="promotion_goes_up"
            ),
        ),
        migrations.AddConstraint(
            model_name="promotion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "approved"), _negated=True), ("envelope__isnull", False), _connector="OR"
                ),
                name="promotion_approved_is_signed",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.UniqueConstraint(fields=("promotion", "ref"), name="approval_person_once"),
        ),
        migrations.AddConstraint(
            model_name="promotionpolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("production_approvals__lte", 10), ("staging_approvals__lte", 10)),
                name="policy_approvals_few",
            ),
        ),
    ]
