"""HTTP and WebSocket under one roof; sockets only from our own pages, with the portal's login."""

from __future__ import annotations

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")
http = get_asgi_application()

from mpx_site.feed import FeedConsumer  # noqa: E402  (its models need the line above)

sockets = URLRouter(
    [
        path("ws/v1/feed", FeedConsumer.as_asgi()),
        re_path("", WebsocketDenier.as_asgi()),
    ]
)
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(sockets)),
    }
)
