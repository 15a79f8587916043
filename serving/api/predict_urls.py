from django.urls import path

from serving.api import predict

urlpatterns = [
    path("<slug:deployment>", predict.Predict.as_view(), name="predict"),
    path("<slug:deployment>/schema", predict.Schema.as_view(), name="predict_schema"),
    path("<slug:deployment>/openapi.json", predict.OpenApi.as_view(), name="predict_openapi"),
    path("<slug:deployment>/docs", predict.Docs.as_view(), name="predict_docs"),
]
