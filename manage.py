#!/usr/bin/env python
"""Run MPX's commands."""

from __future__ import annotations

import os
import sys

USAGE = 2


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"configuration: {error}\n")
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
