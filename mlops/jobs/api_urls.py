from django.urls import path

from mlops.jobs import api

urlpatterns = [
    path("jobs", api.JobList.as_view(), name="api_job_list"),
    path("jobs/<int:job_id>", api.JobDetail.as_view(), name="api_job_detail"),
    path("jobs/<int:job_id>/retry", api.JobRetry.as_view(), name="api_job_retry"),
]
