"""Models come, are activated, retired and rolled back; files are held to their hash."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import IntegrityError, transaction
from django.test import Client
from django_celery_beat.models import PeriodicTask

from alerts import journal
from alerts.models import AuditEntry
from mpx_site.celery import app
from rules import ml_registry
from rules.ml.features import FEATURES_SHA
from rules.ml.model_file import BadModel, read, sha256
from rules.ml_models import MlModel
from rules.ml_registry import NotAllowed
from tests.ml_cast import AT, a_model, samples

pytestmark = pytest.mark.django_db
ADMIN = "/admin/rules/mlmodel/"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings) -> Path:
    settings.MPX_MODELS = tmp_path / "models"
    return settings.MPX_MODELS


def states() -> list[str]:
    return list(MlModel.objects.order_by("pk").values_list("state", flat=True))


def acts() -> list[str]:
    found = AuditEntry.objects.filter(kind__startswith="model.").order_by("id")
    return [f"{entry.kind} {entry.subject} by {entry.actor}" for entry in found]


# --- coming and going ----------------------------------------------------------------


def test_trained_model_is_a_shadow_with_its_file_and_its_report(folder: Path) -> None:
    model = a_model()

    assert (model.state, model.passed, model.why_not) == ("SHADOW", True, "")
    body = (folder / f"{model.sha256}.txt").read_bytes()
    assert sha256(body) == model.sha256
    assert body.startswith(b'{"mpx_model":1,') and b"\ntree\nversion=" in body
    assert model.typed_report.window.samples == 1_300
    assert [each.name for each in folder.iterdir()] == [f"{model.sha256}.txt"]
    assert acts() == [f"model.trained model:{model.pk} by system"]


def test_same_model_again_is_the_one_that_is_there() -> None:
    assert a_model().pk == a_model().pk
    assert len(acts()) == 1


def test_model_that_did_not_pass_is_never_active() -> None:
    model = a_model(learnable=False)

    assert not model.passed
    with pytest.raises(NotAllowed, match="did not pass its gates"):
        ml_registry.activate(model, by=None, at=AT)
    with pytest.raises(IntegrityError), transaction.atomic():
        MlModel.objects.filter(pk=model.pk).update(state="ACTIVE", activated_at=AT)


def test_activating_retires_the_one_before_and_rolling_back_brings_it_back() -> None:
    first, second = a_model(), a_model(2)
    avi = User.objects.create_user("avi")
    ml_registry.activate(first, by=avi, at=AT)
    ml_registry.activate(second, by=avi, at=AT)

    assert states() == ["RETIRED", "ACTIVE"]
    back = ml_registry.roll_back(by=avi, at=AT)
    assert back == first
    assert states() == ["ACTIVE", "RETIRED"]
    assert acts()[2:] == [
        f"model.activated model:{first.pk} by avi",
        f"model.activated model:{second.pk} by avi",
        f"model.rolled_back model:{first.pk} by avi",
    ]
    assert journal.verify() == AuditEntry.objects.count()


def test_steps_that_make_no_sense_are_refused_with_a_reason() -> None:
    model = a_model()
    with pytest.raises(NotAllowed, match="No model was active before"):
        ml_registry.roll_back(by=None, at=AT)
    ml_registry.activate(model, by=None, at=AT)
    with pytest.raises(NotAllowed, match="active already"):
        ml_registry.activate(model, by=None, at=AT)
    ml_registry.retire(model, by=None, at=AT)
    with pytest.raises(NotAllowed, match="retired already"):
        ml_registry.retire(model, by=None, at=AT)


def test_only_one_model_can_be_active_whatever_anybody_does() -> None:
    first, second = a_model(), a_model(2)
    ml_registry.activate(first, by=None, at=AT)

    with pytest.raises(IntegrityError), transaction.atomic():
        MlModel.objects.filter(pk=second.pk).update(state="ACTIVE", activated_at=AT)


def test_of_many_shadows_the_newest_two_are_asked() -> None:
    for variant in (1, 2, 3):
        a_model(variant)

    assert states() == ["RETIRED", "SHADOW", "SHADOW"]
    assert len(ml_registry.in_use()) == 2


# --- files ---------------------------------------------------------------------------


def damaged(model: MlModel, how: str) -> MlModel:
    """Do something to a model's file; where its hash would tell, make the hash agree."""
    path = ml_registry.path_of(model)
    body = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "changed":
        path.write_bytes(body.replace(b"leaf_value=", b"leaf_value=9", 1))
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        other = {
            "features": body.replace(FEATURES_SHA.encode(), b"0" * 64),
            "format": body.replace(b'"mpx_model":1', b'"mpx_model":2'),
            "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
            "trees": body.partition(b"\n")[0] + b"\ntree\nversion=v4\nnum_class=1\n",
        }[how]
        MlModel.objects.filter(pk=model.pk).update(sha256=sha256(other))
        model.refresh_from_db()
        ml_registry.path_of(model).write_bytes(other)
    return model


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", "its file is missing"),
        ("changed", "its file was changed since it was registered"),
        ("folder", "its file cannot be read"),
        ("features", "it was trained on other features"),
        ("format", "it is of format 2"),
        ("pickle", "its first line cannot be read"),
        ("trees", "its trees"),
    ],
)
def test_file_that_is_not_what_was_registered_never_serves(how: str, why: str) -> None:
    model = damaged(a_model(), how)

    with pytest.raises(BadModel, match=why):
        ml_registry.load(model)
    with pytest.raises(NotAllowed, match=why):
        ml_registry.activate(model, by=None, at=AT)


def test_model_says_the_same_after_it_was_written_and_read() -> None:
    model = a_model()
    vectors = [each.vector for each in samples(50, seed=8)]
    served = ml_registry.load(model)
    again = read(ml_registry.path_of(model).read_bytes(), sha=model.sha256)

    chances = served.chances(vectors)
    assert again.chances(vectors) == chances
    assert len(set(chances)) > 10
    with pytest.raises(BadModel, match="other features"):
        served.chances([vectors[0][:-1]])


# --- the admin -----------------------------------------------------------------------


def staff(client: Client, *rights: str) -> User:
    user = User.objects.create_user("avi", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client.force_login(user)
    return user


def act(client: Client, name: str, *models: MlModel) -> str:
    data = {"action": name, "_selected_action": [model.pk for model in models]}
    answer = client.post(ADMIN, data, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def test_admin_activates_retires_and_rolls_back(client: Client) -> None:
    staff(client, "view_mlmodel", "activate_mlmodel")
    first, second = a_model(), a_model(2)

    assert f"model {first.pk} is active" in act(client, "activate", first)
    assert "only one can be active" in act(client, "activate", first, second)
    assert f"model {second.pk} is active" in act(client, "activate", second)
    assert f"model {first.pk} is active again" in act(client, "roll_back", second)
    assert f"model {first.pk} is retired" in act(client, "retire", first)
    assert states() == ["RETIRED", "RETIRED"]
    assert [line.split()[0] for line in acts()[2:]] == [
        "model.activated",
        "model.activated",
        "model.rolled_back",
        "model.retired",
    ]


def test_admin_says_why_a_model_cannot_be_active(client: Client) -> None:
    staff(client, "view_mlmodel", "activate_mlmodel")

    told = act(client, "activate", a_model(learnable=False))

    assert "Nothing was changed" in told and "did not pass its gates" in told


def test_admin_sets_what_is_too_unlikely_for_an_alert(client: Client) -> None:
    staff(client, "view_mlmodel", "activate_mlmodel")
    model = a_model()
    page = f"{ADMIN}{model.pk}/change/"

    assert client.post(page, {"suppress_below": "0.3"}).status_code == 302
    model.refresh_from_db()
    assert str(model.suppress_below) == "0.300"
    assert acts()[-1] == f"model.suppression_set model:{model.pk} by avi"
    assert client.post(page, {"suppress_below": "1.5"}).status_code == 200
    assert client.post(page, {"suppress_below": ""}).status_code == 302
    model.refresh_from_db()
    assert model.suppress_below is None


def test_who_may_only_look_changes_nothing(client: Client) -> None:
    staff(client, "view_mlmodel")
    model = a_model()
    page = f"{ADMIN}{model.pk}/change/"

    act(client, "activate", model)
    assert client.get(page).status_code == 200
    assert client.post(page, {"suppress_below": "0.3"}).status_code == 403
    assert states() == ["SHADOW"]
    assert client.get(f"{ADMIN}add/").status_code == 403


# --- the schedule --------------------------------------------------------------------


def test_a_shadow_is_trained_every_six_hours_and_approvers_activate() -> None:
    import_module("execution.migrations.0003_roles").create(apps)
    import_module("mpx_site.migrations.0015_train_shadows").install(apps, None)
    app.loader.import_default_modules()

    job = PeriodicTask.objects.get(name="train-shadow")
    assert job.task in app.tasks
    assert job.schedule.run_every.total_seconds() == 6 * 3600
    may = Group.objects.filter(permissions__codename="activate_mlmodel")
    assert set(may.values_list("name", flat=True)) == {"approver", "admin"}
