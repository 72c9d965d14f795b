from django.contrib.admin import apps


class MpxAdminConfig(apps.AdminConfig):
    default_site = "mpx_site.admin.MpxAdminSite"
