"""A desk holds what the chart expects, for nobody else's eyes."""

import stat
from pathlib import Path

import pytest
import yaml
from tests import environments

from xwiki_stack import credentials, policy, render
from xwiki_stack.backup.config import load
from xwiki_stack.cluster.objectstore import Identity, ObjectStore
from xwiki_stack.desk import BACKUPS, HOLDERS, Desk

ROLES = {
    "writer": ("CronJob", "site"),
    "verifier": ("CronJob", "verify"),
    "prune": ("CronJob", "prune"),
    "drill": ("CronJob", "drill"),
    "exporter": ("Deployment", "exporter"),
    "recovery": ("CronJob", "restore"),
}
"""Who mounts the Secret of each holder."""

ALL = {"drill": {"enabled": True}, "metrics": {"enabled": True}}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk", ObjectStore(tmp_path / "store", port=1), "story", "there")


def mounted(desk: Desk, kind: str, role: str) -> dict[str, set[str]]:
    """Secrets of backups that the chart's pod of a role mounts, by name, with their keys."""
    objects = environments.chart("backups", {**desk.values()["backups"], **ALL})
    spec = policy.pod_of(environments.only(objects, kind, f"-{role}"))["spec"]
    found = [v["secret"] for v in spec["volumes"] if "secret" in v]
    return {
        secret["secretName"]: {item["key"] for item in secret["items"]}
        for secret in found
        if secret["secretName"].startswith(BACKUPS)
    }


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_secrets_are_those_that_the_chart_reads(desk: Desk, holder: str) -> None:
    made = desk.secret(holder)
    assert mounted(desk, *ROLES[holder]) == {made["metadata"]["name"]: set(made["data"])}


def test_each_holder_has_its_own_identity_at_the_store_and_the_desk_that_of_the_recovery(
    desk: Desk,
) -> None:
    own = {holder: Identity() for holder in HOLDERS}
    given = Desk(desk.folder / "own", desk.store, "story", "there", own)
    for holder, identity in own.items():
        data = given.secret(holder)["data"]
        assert data["access-key"] == credentials.encode(identity.access)
        assert data["secret-key"] == credentials.encode(identity.secret)
        assert desk.secret(holder)["data"]["access-key"] == credentials.encode(desk.store.access)
    assert (given.keys / "access-key").read_text() == own["recovery"].access
    assert (given.keys / "secret-key").read_text() == own["recovery"].secret


def test_keys_are_private_and_stay_what_they_are(desk: Desk) -> None:
    files = [path for path in desk.folder.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    again = Desk(desk.folder, desk.store, "story", "there")
    assert (again.recipient, again.trusted) == (desk.recipient, desk.trusted)


def test_the_engine_reads_the_desk_s_configuration(desk: Desk) -> None:
    said = load(desk.configure())
    assert said.keys.recipients == (desk.recipient,)
    assert said.store.endpoint == desk.store.endpoint
    assert said.web is None
    said = load(desk.configure("http://127.0.0.1:1", "secret"))
    assert said.need_web().password_file.read_text() == "secret"


def test_the_runbook_s_variables_are_all_there(desk: Desk) -> None:
    from xwiki_stack.runbook import FOLDER, Runbook

    first = {"a": {"b": 1}}
    given = desk.variables([environments.EVERYTHING, first], "/rest/x")
    text = Runbook(FOLDER / "restore-site.md", {}).variables
    names = {line.split("=")[0].removeprefix("export ") for line in text.splitlines()}
    assert names - {"CHART", "SET"} == set(given)
    files = [Path(name) for name in given["VALUES"].split(",")]
    assert files[0] == environments.EVERYTHING
    assert yaml.safe_load(files[1].read_text()) == first
    assert given["RELEASE"] == render.RELEASE
    assert set(credentials.KEYS) == {"xwiki", "mysql"}
