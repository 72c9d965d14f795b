"""Make the secrets of compose.yaml that are missing; keep those that are there.

The folder is for its owner alone. The files in it are readable by all, because the users inside
of the containers are others than on the host.
"""

import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "secrets"
MADE = ("secret_key", "postgres_password", "admin_api_token", "grafana_password")
GIVEN = ("telegram_bot_token",)  # by its owner; empty until then
BYTES = 48


def make(folder: Path) -> list[str]:
    """Return the names of those that were made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    missing = [name for name in (*MADE, *GIVEN) if not (folder / name).exists()]
    for name in missing:
        (folder / name).write_text(secrets.token_urlsafe(BYTES) if name in MADE else "")
        (folder / name).chmod(0o644)
    return missing


if __name__ == "__main__":
    for made in make(FOLDER):
        sys.stdout.write(f"made deploy/secrets/{made}\n")
