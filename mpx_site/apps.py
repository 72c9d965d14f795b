from django.apps import AppConfig


class MpxSiteConfig(AppConfig):
    name = "mpx_site"
    verbose_name = "Access"

    def ready(self) -> None:
        # They register; after all other admins are there.
        from mpx_site import (  # noqa: F401
            api_token_admin,
            counts,
            feed_wake,
            people_admin,
            schedule_admin,
            tracing,
        )
        from mpx_site.bot import admin  # noqa: F401

        counts.connect()
