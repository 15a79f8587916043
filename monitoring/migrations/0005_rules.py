import django.db.models.functions.datetime
from django.db import migrations, models

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0004_quality")]

    operations = [
        migrations.AlterModelOptions(
            name="alertrule",
            options={"ordering": ("kind", "name", "pk"), "verbose_name": "alert rule"},
        ),
        migrations.RemoveConstraint(
            model_name="alertrule",
            name="rule_kind_once",
        ),
        migrations.AddField(
            model_name="alertrule",
            name="bound",
            field=models.FloatField(help_text="What the value was compared with, in its unit.", null=True),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="checked_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="claim",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The evaluation that has it: one of two that come at once.",
                max_length=32,
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="created_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(), default=mlops.core.clock.now, editable=False
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="direction",
            field=models.CharField(
                choices=[("above", "Above"), ("below", "Below")], db_default="above", default="above", max_length=6
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="flapping",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="measure",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of an own rule: a code of monitoring.measures.",
                max_length=60,
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="name",
            field=models.CharField(blank=True, db_default="", default="", help_text="Of an own rule.", max_length=80),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="params",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                default=dict,
                help_text="Of an own rule: what its measure asks for, a column say.",
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="recent",
            field=models.JSONField(
                db_default=models.Value([], models.JSONField()),
                default=list,
                help_text="The last evaluations that said something: 1 fired, 0 did not.",
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="severity",
            field=models.CharField(
                blank=True,
                choices=[("critical", "Critical"), ("warning", "Warning")],
                db_default="",
                default="",
                help_text="Empty: by the rule's kind.",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="state",
            field=models.CharField(
                db_default="unknown", default="unknown", help_text="firing, calm, hold or unknown.", max_length=10
            ),
        ),
        migrations.AddField(
            model_name="alertrule",
            name="value",
            field=models.FloatField(null=True),
        ),
        migrations.AddField(
            model_name="incident",
            name="acknowledged_by",
            field=models.CharField(blank=True, db_default="", default="", help_text="Who works on it.", max_length=200),
        ),
        migrations.AddField(
            model_name="incident",
            name="muted",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                default=dict,
                help_text="While muted: the factor that counts as worse, and each signal's value then.",
            ),
        ),
        migrations.AddField(
            model_name="incident",
            name="reminders",
            field=models.PositiveIntegerField(
                db_default=0, default=0, help_text="Since the last news: they come less and less often."
            ),
        ),
        migrations.AlterField(
            model_name="alertrule",
            name="kind",
            field=models.CharField(
                choices=[
                    ("drift", "Drift"),
                    ("error_rate", "Error rate"),
                    ("latency", "p95 latency"),
                    ("no_traffic", "No traffic"),
                    ("quality", "Quality drop"),
                    ("estimate", "Estimated quality drop"),
                    ("custom", "Own rule"),
                ],
                max_length=12,
            ),
        ),
        migrations.AlterField(
            model_name="alertrule",
            name="threshold",
            field=models.FloatField(
                help_text="drift: PSI; error_rate: share 0-1; latency: times the baseline; no_traffic: hours; quality, estimate: tolerated drop; custom: the measure's unit."
            ),
        ),
        migrations.AlterField(
            model_name="incident",
            name="mails",
            field=models.PositiveIntegerField(default=0, help_text="How often its people were told."),
        ),
        migrations.AlterField(
            model_name="incident",
            name="status",
            field=models.CharField(
                choices=[
                    ("open", "Open"),
                    ("acknowledged", "Acknowledged"),
                    ("snoozed", "Snoozed"),
                    ("muted", "Muted until worse"),
                    ("resolved", "Resolved"),
                ],
                default="open",
                max_length=12,
            ),
        ),
        migrations.AddConstraint(
            model_name="alertrule",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "custom"), _negated=True),
                fields=("deployment", "kind"),
                name="rule_kind_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="alertrule",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "custom")), fields=("deployment", "name"), name="rule_name_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="alertrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "custom"), _negated=True),
                    models.Q(models.Q(("name", ""), _negated=True), models.Q(("measure", ""), _negated=True)),
                    _connector="OR",
                ),
                name="rule_own_has_name_and_measure",
            ),
        ),
    ]
