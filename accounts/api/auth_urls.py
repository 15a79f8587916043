from django.urls import path

from accounts.api import auth

urlpatterns = [
    path("register", auth.Register.as_view(), name="api_auth_register"),
    path("login", auth.Login.as_view(), name="api_auth_login"),
    path("refresh", auth.Refresh.as_view(), name="api_auth_refresh"),
    path("logout", auth.Logout.as_view(), name="api_auth_logout"),
    path("me", auth.Me.as_view(), name="api_auth_me"),
]
