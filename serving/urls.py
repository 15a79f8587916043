from django.urls import path

from serving.views import deployments, predictions, traffic

urlpatterns = [
    path("deployments/", deployments.deployment_list, name="deployment_list"),
    path("deployments/new/", deployments.deployment_create, name="deployment_create"),
    path("deployments/<slug:name>/", deployments.deployment_detail, name="deployment_detail"),
    path("deployments/<slug:name>/deploy/", deployments.deployment_deploy, name="deployment_deploy"),
    path("deployments/<slug:name>/rollback/", deployments.deployment_rollback, name="deployment_rollback"),
    path("deployments/<slug:name>/limit/", deployments.deployment_limit, name="deployment_limit"),
    path("deployments/<slug:name>/stop/", deployments.deployment_stop, name="deployment_stop"),
    path("deployments/<slug:name>/start/", deployments.deployment_start, name="deployment_start"),
    path("deployments/<slug:name>/try/", deployments.deployment_try, name="deployment_try"),
    path("deployments/<slug:name>/key/", deployments.deployment_key, name="deployment_key"),
    path("deployments/<slug:name>/docs/", deployments.deployment_docs, name="deployment_docs"),
    path("deployments/<slug:name>/samples/", deployments.deployment_samples, name="deployment_samples"),
    path("deployments/<slug:name>/traffic/", traffic.deployment_traffic, name="deployment_traffic"),
    path("deployments/<slug:name>/predictions/", predictions.deployment_predictions, name="deployment_predictions"),
    path(
        "deployments/<slug:name>/predictions/<uuid:prediction_id>/",
        predictions.deployment_prediction,
        name="deployment_prediction",
    ),
    path("settings/runtime/", traffic.runtime_status, name="runtime_status"),
]
