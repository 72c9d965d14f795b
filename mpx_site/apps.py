from django.apps import AppConfig


class MpxSiteConfig(AppConfig):
    name = "mpx_site"

    def ready(self) -> None:
        from mpx_site import schedule_admin  # noqa: F401  (registers; after all admins are there)
