"""The desk's roles, as groups with their permissions.

An admin manages accounts, rules and limits and can stop the desk, but approves nothing.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SEEN = {
    "markets": ("event", "market", "outcome", "quote", "tick", "quarantine"),
    "rules": ("rule", "ruleversion"),
    "signals": ("signal", "signalpoint"),
    "risk": ("policy", "policychange", "breaker", "killswitch"),
    "execution": (
        "orderintent",
        "intentevent",
        "intentleg",
        "fill",
        "positionentry",
        "livebook",
    ),
    "alerts": ("heartbeat",),
}
VIEW = tuple(f"{app}.{model}.view_{model}" for app, models in SEEN.items() for model in models)
AUDIT = (
    "alerts.auditentry.view_auditentry",
    "alerts.feedentry.view_feedentry",
    "alerts.outboxentry.view_outboxentry",
)
CREATE = "execution.orderintent.create_intent"
APPROVE = "execution.orderintent.approve_intent"
ENABLE = "rules.rule.enable_rule"
EDIT = "risk.policy.edit_policy"
TRIP = "risk.killswitch.trip_kill"
REARM = "risk.killswitch.rearm_kill"
RESET = "risk.breaker.reset_breaker"
ACCOUNTS = tuple(
    f"auth.{model}.{act}_{model}"
    for model in ("user", "group")
    for act in ("view", "add", "change", "delete")
)

ROLES: dict[str, tuple[str, ...]] = {
    "viewer": VIEW,
    "analyst": (*VIEW, *AUDIT, ENABLE),
    "trader": (*VIEW, *AUDIT, CREATE, TRIP),
    "approver": (*VIEW, *AUDIT, APPROVE, TRIP, REARM, RESET, EDIT),
    "admin": (*VIEW, *AUDIT, *ACCOUNTS, ENABLE, TRIP, REARM, RESET, EDIT),
}
NAMES = {
    CREATE: "Can suggest, revise and cancel order intents",
    APPROVE: "Can approve and reject order intents",
    ENABLE: "Can switch rules on and off",
    EDIT: "Can change limits and confirm looser ones",
    TRIP: "Can trip the kill switch",
    REARM: "Can re-arm the kill switch",
    RESET: "Can trip and reset circuit breakers",
}


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor | None = None) -> None:
    for role, wanted in ROLES.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(*(_permission(apps, each) for each in wanted))


def _permission(apps: Apps, path: str) -> object:
    """Return a permission; Django itself creates these rows only after all migrations."""
    app, model, codename = path.split(".")
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label=app, model=model
    )
    act = codename.partition("_")[0]
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content,
        codename=codename,
        defaults={"name": NAMES.get(path, f"Can {act} {model}")},
    )
    return permission


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = (
        ("execution", "0002_written_once"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("alerts", "0001_initial"),
        ("markets", "0001_initial"),
        ("risk", "0002_policy_and_switch"),
        ("rules", "0001_initial"),
        ("signals", "0001_initial"),
    )

    operations = (migrations.RunPython(create, remove),)
