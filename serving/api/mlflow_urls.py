"""Below /api/v1/predict/{org}/{deployment}/."""

from django.urls import path

from serving.api import mlflow

urlpatterns = [
    path("invocations", mlflow.Invocations.as_view(), name="mlflow_invocations"),
    path("ping", mlflow.Ping.as_view(), name="mlflow_ping"),
    path("health", mlflow.Ping.as_view(), name="mlflow_health"),
    path("version", mlflow.Version.as_view(), name="mlflow_version"),
]
