import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0002_checks")]

    operations = [
        migrations.RemoveConstraint(model_name="baseline", name="baseline_once"),
        migrations.AlterField(
            model_name="baseline",
            name="source",
            field=models.CharField(
                choices=[
                    ("reference", "Reference rows given at push"),
                    ("sample", "Sample rows given at push"),
                    ("live", "First live rows"),
                    ("window", "Live rows of chosen days"),
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="baseline",
            name="learned_until",
            field=models.DateTimeField(
                help_text="Source live: rows up to here are the baseline itself and are not counted.", null=True
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="learned_id",
            field=models.UUIDField(help_text="The last of them: rows of one request share their moment.", null=True),
        ),
        migrations.AddField(
            model_name="baseline",
            name="active",
            field=models.BooleanField(default=True, help_text="The one that this version is compared with."),
        ),
        migrations.AddField(
            model_name="baseline",
            name="former",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="followers",
                to="monitoring.baseline",
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="made_by",
            field=models.CharField(
                blank=True, help_text="Who made it the new normal; empty: the product.", max_length=200
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="rows_from",
            field=models.DateTimeField(
                help_text="Source window: the stretch of time that is the new normal.", null=True
            ),
        ),
        migrations.AddField(model_name="baseline", name="rows_until", field=models.DateTimeField(null=True)),
        migrations.AddField(
            model_name="baseline",
            name="replaced_at",
            field=models.DateTimeField(help_text="When another took its place.", null=True),
        ),
        migrations.AddField(
            model_name="baseline",
            name="counted_until",
            field=models.DateTimeField(
                help_text="A replaced baseline is counted on until then, so that it can come back with its counts.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="profile",
            field=models.JSONField(default=dict, help_text="Data quality by column: monitoring.profiles."),
        ),
        migrations.AddField(
            model_name="baseline",
            name="backfill_before",
            field=models.DateTimeField(
                help_text="Kept rows before this are still to be counted; empty: all are.", null=True
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="backfill_batch",
            field=models.PositiveBigIntegerField(
                default=0, help_text="Rows of batches up to this one are the backfill's, all others the counter's."
            ),
        ),
        migrations.AddField(
            model_name="baseline",
            name="counts_from",
            field=models.DateTimeField(help_text="The oldest row that was still kept when it was made.", null=True),
        ),
        migrations.AddField(
            model_name="baseline",
            name="days_until",
            field=models.DateTimeField(help_text="Counts before this are kept by day, after it by hour.", null=True),
        ),
        migrations.AddField(model_name="columncount", name="span", field=models.PositiveSmallIntegerField(default=1)),
        migrations.AddConstraint(
            model_name="baseline",
            constraint=models.UniqueConstraint(
                condition=Q(("active", True)), fields=("deployment", "version"), name="baseline_active_once"
            ),
        ),
        migrations.AddIndex(
            model_name="baseline",
            index=models.Index(
                condition=Q(("backfill_before__isnull", False)), fields=["id"], name="baseline_backfill"
            ),
        ),
    ]
