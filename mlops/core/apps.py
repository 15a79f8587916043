from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "mlops.core"
    label = "core"
