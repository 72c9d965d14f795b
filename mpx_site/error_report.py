"""What Django shows and mails of an exception: without the secrets of this desk."""

from __future__ import annotations

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from mpx_site.secret_words import masked


class MaskedReport(ExceptionReporter):
    """Django hides what is called a password; here a secret is hidden wherever it stands."""

    def get_traceback_html(self) -> SafeString:
        return SafeString(masked(super().get_traceback_html()))  # nosec B703

    def get_traceback_text(self) -> SafeString:
        return SafeString(masked(super().get_traceback_text()))  # nosec B703
