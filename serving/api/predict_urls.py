from django.urls import path

from serving.api import batches, predict
from serving.models import BatchPart

_BATCH = "<slug:deployment>/batch/<uuid:batch_id>"
urlpatterns = [
    path("<slug:deployment>", predict.Predict.as_view(), name="predict"),
    path("<slug:deployment>/batch", batches.BatchList.as_view(), name="predict_batch"),
    path(_BATCH, batches.BatchDetail.as_view(), name="predict_batch_run"),
    path(f"{_BATCH}/cancel", batches.BatchCancel.as_view(), name="predict_batch_cancel"),
    path(f"{_BATCH}/results", batches.BatchFile.as_view(), name="predict_batch_results"),
    path(f"{_BATCH}/failed", batches.BatchFile.as_view(kind=BatchPart.Kind.FAILED), name="predict_batch_failed"),
    path("<slug:deployment>/previews/<slug:preview>", predict.Preview.as_view(), name="predict_preview"),
    path("<slug:deployment>/schema", predict.Schema.as_view(), name="predict_schema"),
    path("<slug:deployment>/openapi.json", predict.OpenApi.as_view(), name="predict_openapi"),
    path("<slug:deployment>/docs", predict.Docs.as_view(), name="predict_docs"),
]
