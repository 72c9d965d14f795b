"""The canary can sing: each way out for a secret is tried in a run of its own, which must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

LEAKS = """
import os, subprocess, sys, time
import pytest
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import path

secret = os.environ["ADMIN_API_TOKEN"]
whole = login_not_required(lambda request: HttpResponse(secret))
parts = login_not_required(lambda request: StreamingHttpResponse(iter(["a,b", secret])))
header = login_not_required(lambda request: HttpResponse(headers={"X-Token": secret}))
urlpatterns = [path("whole", whole), path("parts", parts), path("header", header)]

def leak_printed():
    print("the token is", secret)

def leak_printed_by_a_child():
    subprocess.run([sys.executable, "-c", "import os; print(os.environ['ADMIN_API_TOKEN'])"])

def leak_read_from_a_child():
    code = "import os; print('a'); print(os.environ['ADMIN_API_TOKEN'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert [line for line in child.stdout]

def leak_told_by_a_child():
    code = "import os; print(os.environ['ADMIN_API_TOKEN'])"
    subprocess.run([sys.executable, "-c", code], capture_output=True)

def leak_on_a_command_line():
    subprocess.run(["true", f"--token={secret}"])

@pytest.mark.parametrize("page", ["whole", "parts", "header"])
@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[])
def leak_in_an_answer(page):
    assert b"".join(Client().get(f"/{page}"))

def leak_into_the_database(django_db_blocker):
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT %s", [f"note {secret}"])

def leak_in_a_failure():
    assert secret == ""

def quiet():
    print(secret[:6], len(secret))

def quiet_until_its_grandchild_is_seen():
    subprocess.run(["sh", "-c", "sh -c 'sleep 1.5; true' $ADMIN_API_TOKEN"])

def quiet_until_its_files_are_read(tmp_path):
    (tmp_path / "notes.bin").write_bytes(b"x" * 10_000 + secret.encode())
"""
OPTIONS = ("-p", "tests.canary", "-p", "no:cacheprovider", "-rA", "-c", "pytest.ini")


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run tests under a canary of their own: its word is not the one of this run."""
    (folder / "test_leaks.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\npython_functions = leak* quiet*\n")
    env = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    env |= {"PYTHONPATH": str(ROOT), "MPX_HOME": str(folder / "home")}
    env |= {"DJANGO_SETTINGS_MODULE": "mpx_site.settings", "DATABASE_URL": "sqlite://:memory:"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, "test_leaks.py", "--basetemp=left"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)


@pytest.mark.timeout(120)
def test_every_way_out_is_heard_and_named(tmp_path):
    ran = run(tmp_path, LEAKS)

    told = ran.stdout.splitlines()
    named = [line.split()[1].partition("::")[2] for line in told if line.startswith("FAILED")]
    leaks = {name for name in named if name.startswith("leak")}
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert len(leaks) == 10 and "quiet" not in named
    assert ran.stdout.count("A secret was heard by the canary") > len(leaks)
    assert "command line of a process" in ran.stdout
    assert "notes.bin: ...'" in ran.stdout


def test_processes_of_the_suite_have_the_canary_for_their_secrets(settings):
    assert os.environ["MPX_CANARY"] in settings.SECRET_KEY
    assert os.environ["MPX_CANARY"] in settings.TELEGRAM_BOT_TOKEN
    assert os.environ["MPX_CANARY"] in settings.ADMIN_API_TOKEN
