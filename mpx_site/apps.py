from django.contrib.admin.apps import AdminConfig


class MpxAdminConfig(AdminConfig):
    default_site = "mpx_site.admin.MpxAdminSite"
