from django.apps import AppConfig


class MpxSiteConfig(AppConfig):
    name = "mpx_site"
    verbose_name = "Access"

    def ready(self) -> None:
        # They register; after all other admins are there.
        from mpx_site import api_token_admin, feed_wake, people_admin, schedule_admin, tracing  # noqa: F401
        from mpx_site.bot import admin  # noqa: F401
