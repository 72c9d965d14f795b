from django.apps import AppConfig


class MpxSiteConfig(AppConfig):
    name = "mpx_site"

    def ready(self) -> None:
        # They register; after all other admins are there.
        from mpx_site import api_token_admin, feed_wake, schedule_admin  # noqa: F401
