import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("monitoring", "0001_initial"), ("serving", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="WatchPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "budget_days",
                    models.PositiveIntegerField(
                        default=90,
                        help_text="At most one false alarm in so many days, over all that watches this deployment.",
                    ),
                ),
                (
                    "fixed_psi",
                    models.FloatField(
                        blank=True, help_text="Instead of calibrated tests: drift is PSI above this limit.", null=True
                    ),
                ),
                (
                    "multivariate",
                    models.BooleanField(
                        default=True, help_text="Also look at whether the columns move together as before."
                    ),
                ),
            ],
            options={
                "verbose_name": "watch policy",
            },
        ),
        migrations.AddField(
            model_name="driftcheck",
            name="psi_inputs",
            field=models.FloatField(help_text="Largest PSI of an input over the rule's own window.", null=True),
        ),
        migrations.AddField(
            model_name="driftcheck",
            name="psi_outputs",
            field=models.FloatField(help_text="Largest PSI of what the model answered, over the same.", null=True),
        ),
        migrations.AddField(
            model_name="driftcheck",
            name="window_minutes",
            field=models.PositiveIntegerField(
                default=1440, help_text="Which of the judged windows is told: the one in which it shows most."
            ),
        ),
        migrations.AddField(
            model_name="driftcheck",
            name="windows",
            field=models.JSONField(
                default=list,
                help_text="Every window that was judged: minutes, start, end, rows, verdict, sentence, columns.",
            ),
        ),
        migrations.AddIndex(
            model_name="driftcheck",
            index=models.Index(fields=["deployment", "version", "-at"], name="drift_of_version"),
        ),
        migrations.AddField(
            model_name="watchpolicy",
            name="deployment",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="watch_policy", to="serving.deployment"
            ),
        ),
        migrations.AddField(
            model_name="watchpolicy",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="watchpolicy",
            constraint=models.CheckConstraint(condition=models.Q(("budget_days__gte", 1)), name="watch_budget_days"),
        ),
        migrations.AddConstraint(
            model_name="watchpolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("fixed_psi__isnull", True), ("fixed_psi__gt", 0), _connector="OR"),
                name="watch_fixed_psi",
            ),
        ),
    ]
