from django.contrib.admin import AdminSite


class MpxAdminSite(AdminSite):
    site_title = site_header = "MarketPulse-X"
    index_title = "The desk"
