from django.apps import AppConfig


class MlopsConfig(AppConfig):
    name = "mlops"

    def ready(self) -> None:
        from mlops import checks  # noqa: F401  registers the system checks
