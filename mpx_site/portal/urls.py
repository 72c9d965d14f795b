"""The portal's addresses."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from mpx_site.portal import views

urlpatterns = [
    path("", views.home, name="home"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("status/", views.status, name="status"),
    path("signals/", views.signals, name="signals"),
    path("signals/rows/", views.signal_rows, name="signal-rows"),
    path("signals/<slug:key>/", views.signal, name="signal"),
    path("markets/", views.markets, name="markets"),
    path("markets/<str:market_id>/", views.market, name="market"),
]
