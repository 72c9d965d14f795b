"""HTTP and WebSocket under one roof.

A socket comes from our own pages with the portal's login, or from a program
with a ticket; browsers always send an Origin, programs need none.
"""

from __future__ import annotations

import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")
http = get_asgi_application()

from mpx_site.db.limits import Pages  # noqa: E402  (after the settings)
from mpx_site.feed import FeedConsumer  # noqa: E402  (its models need the line above)
from mpx_site.feed_line import told_apart  # noqa: E402
from mpx_site.feed_ticket import tickets_or  # noqa: E402
from mpx_site.pulse_ear import Listening  # noqa: E402

feed: Any = FeedConsumer()  # an application, where Django's types expect a view
sockets = URLRouter(
    [
        path("ws/v1/feed", feed),
        re_path("", WebsocketDenier.as_asgi()),
    ]
)
by_login = AllowedHostsOriginValidator(AuthMiddlewareStack(sockets))
application = Listening(
    ProtocolTypeRouter(
        {
            "http": Pages(http),
            "websocket": told_apart(tickets_or(by_login, by_ticket=sockets)),
        }
    )
)
