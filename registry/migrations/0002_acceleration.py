from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='accelerate',
            field=models.BooleanField(db_default=True, default=True, help_text='Whether the faster form answers, where there is one.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='accelerated_bytes',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='accelerated_key',
            field=models.CharField(blank=True, db_default='', default='', max_length=300),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='accelerated_sha256',
            field=models.CharField(blank=True, db_default='', default='', help_text='Of the faster form; signed with the rest.', max_length=64),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='acceleration',
            field=models.JSONField(blank=True, help_text='Measured: whether it has a faster form, how equal and how fast, or why not.', null=True),
        ),
    ]
