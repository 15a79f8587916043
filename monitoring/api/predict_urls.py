"""Below /api/v1/predict/{org}/{deployment}/: what really happened."""

from django.urls import path

from monitoring.api import feedback

urlpatterns = [path("feedback", feedback.Feedback.as_view(), name="predict_feedback")]
