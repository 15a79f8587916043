import django.db.models.deletion
import mlops.core.clock
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0003_baselines'),
    ]

    operations = [
        migrations.CreateModel(
            name='CustomMetric',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.SlugField(max_length=40)),
                ('language', models.CharField(choices=[('formula', 'Formula'), ('python', 'Python')], max_length=8)),
                ('source', models.TextField()),
                ('unit', models.CharField(blank=True, max_length=20)),
                ('high_is_bad', models.BooleanField(default=False)),
                ('window_hours', models.PositiveSmallIntegerField(default=24)),
                ('enabled', models.BooleanField(default=True)),
                ('error', models.TextField(blank=True, help_text='Why the last evaluation gave nothing.')),
                ('created_by', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ('changed_at', models.DateTimeField(default=mlops.core.clock.now)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='custom_metrics', to='serving.deployment')),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organization')),
            ],
            options={
                'verbose_name': 'metric',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='Feedback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('prediction_id', models.UUIDField()),
                ('actual', models.JSONField()),
                ('history', models.JSONField(default=list, help_text='Earlier words, oldest first: what, until when, who changed it.')),
                ('given_by', models.CharField(blank=True, max_length=200)),
                ('received_at', models.DateTimeField(default=mlops.core.clock.now)),
                ('changed_at', models.DateTimeField(default=mlops.core.clock.now)),
                ('due', models.BooleanField(default=True)),
                ('look_at', models.DateTimeField(default=mlops.core.clock.now, help_text='When a due one is to be looked for in the log (again).')),
                ('predicted_at', models.DateTimeField(null=True)),
                ('prediction', models.JSONField(null=True)),
                ('probabilities', models.JSONField(null=True)),
                ('counted', models.JSONField(null=True)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to='serving.deployment')),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organization')),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.modelversion')),
            ],
            options={
                'verbose_name': 'feedback',
                'ordering': ('-pk',),
            },
        ),
        migrations.CreateModel(
            name='FeedbackLoss',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('unmatched', models.PositiveIntegerField(default=0)),
                ('refused', models.PositiveIntegerField(default=0)),
                ('example', models.CharField(blank=True, max_length=300)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='feedback_losses', to='serving.deployment')),
            ],
        ),
        migrations.CreateModel(
            name='MetricValue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('value', models.FloatField(null=True)),
                ('rows', models.PositiveIntegerField(default=0)),
                ('metric', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='values', to='monitoring.custommetric')),
            ],
            options={
                'ordering': ('at',),
            },
        ),
        migrations.CreateModel(
            name='QualityBaseline',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(choices=[('reference', 'Reference rows with their outcome'), ('feedback', 'First labelled live rows'), ('none', 'Nothing with outcomes yet')], max_length=10)),
                ('rows', models.PositiveIntegerField(default=0)),
                ('outcomes', models.JSONField(null=True)),
                ('calibrators', models.JSONField(default=list)),
                ('calibration', models.JSONField(default=dict, help_text='Calibration error before and after, and whether it was used.')),
                ('made_at', models.DateTimeField(default=mlops.core.clock.now)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='quality_baselines', to='serving.deployment')),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organization')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.modelversion')),
            ],
        ),
        migrations.CreateModel(
            name='QualityCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('rows', models.PositiveBigIntegerField(default=0)),
                ('outcomes', models.JSONField()),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='quality_counts', to='serving.deployment')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.modelversion')),
            ],
        ),
        migrations.CreateModel(
            name='ScoreCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('rows', models.PositiveBigIntegerField(default=0)),
                ('scores', models.JSONField(null=True)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='score_counts', to='serving.deployment')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.modelversion')),
            ],
        ),
        migrations.AddConstraint(
            model_name='custommetric',
            constraint=models.UniqueConstraint(fields=('deployment', 'name'), name='custom_metric_once'),
        ),
        migrations.AddIndex(
            model_name='feedback',
            index=models.Index(condition=models.Q(('due', True)), fields=['look_at'], name='feedback_due'),
        ),
        migrations.AddIndex(
            model_name='feedback',
            index=models.Index(fields=['deployment', 'version', '-predicted_at'], name='feedback_of_version'),
        ),
        migrations.AddConstraint(
            model_name='feedback',
            constraint=models.UniqueConstraint(fields=('deployment', 'prediction_id'), name='feedback_once'),
        ),
        migrations.AddConstraint(
            model_name='feedback',
            constraint=models.CheckConstraint(condition=models.Q(('version__isnull', True), ('predicted_at__isnull', False), _connector='OR'), name='feedback_matched_whole'),
        ),
        migrations.AddConstraint(
            model_name='feedbackloss',
            constraint=models.UniqueConstraint(fields=('deployment', 'day'), name='feedback_loss_once'),
        ),
        migrations.AddConstraint(
            model_name='metricvalue',
            constraint=models.UniqueConstraint(fields=('metric', 'at'), name='metric_value_once'),
        ),
        migrations.AddConstraint(
            model_name='qualitybaseline',
            constraint=models.UniqueConstraint(fields=('deployment', 'version'), name='quality_baseline_once'),
        ),
        migrations.AddConstraint(
            model_name='qualitycount',
            constraint=models.UniqueConstraint(fields=('deployment', 'version', 'hour'), name='quality_hour_once'),
        ),
        migrations.AddConstraint(
            model_name='scorecount',
            constraint=models.UniqueConstraint(fields=('deployment', 'version', 'hour'), name='score_hour_once'),
        ),
    ]
