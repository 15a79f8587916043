import django.core.validators
from django.db import migrations, models
from django.db.models.functions import Now


def begin_with_whole_periods(apps, schema_editor):
    """Periods had names of their own by week; now they are named by the day they end. Nobody gets the one under way twice."""
    apps.get_model("monitoring", "DigestSubscription").objects.exclude(last_period="").update(
        last_period="", changed_at=Now()
    )


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0007_retraining"), ("accounts", "0004_time_zone")]

    operations = [
        migrations.AddField(
            model_name="digestsubscription",
            name="hour",
            field=models.PositiveSmallIntegerField(
                db_default=7,
                default=7,
                help_text="Local hour from which it is sent.",
                validators=[django.core.validators.MaxValueValidator(23)],
            ),
        ),
        migrations.AddField(
            model_name="digestsubscription",
            name="next_at",
            field=models.DateTimeField(
                blank=True, help_text="When the next one is due; empty: to be worked out.", null=True
            ),
        ),
        migrations.AddField(
            model_name="digestsubscription",
            name="weekday",
            field=models.PositiveSmallIntegerField(
                choices=[
                    (0, "Monday"),
                    (1, "Tuesday"),
                    (2, "Wednesday"),
                    (3, "Thursday"),
                    (4, "Friday"),
                    (5, "Saturday"),
                    (6, "Sunday"),
                ],
                db_default=0,
                default=0,
                help_text="Day on which a weekly one is sent.",
            ),
        ),
        migrations.AlterField(
            model_name="digestsubscription",
            name="last_period",
            field=models.CharField(
                blank=True, help_text="Local day on which the period last sent ended: never twice.", max_length=20
            ),
        ),
        migrations.AddIndex(
            model_name="digestsubscription", index=models.Index(fields=["next_at"], name="digest_due")
        ),
        migrations.RunPython(begin_with_whole_periods, migrations.RunPython.noop),
    ]
