"""A change restarts what it touches and nothing else; passwords and sizes change without harm."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import WIKI_PORT, Bed, settled
from tests.e2e.patience import eventually
from tests.e2e.test_install import sql
from tests.e2e.wiki import Wiki
from xwiki_stack import credentials, render
from xwiki_stack.errors import StackError

Values = Callable[..., list[render.Values]]

NEWER = "99.0.0+abcdef123456"
"""A version as Flux writes it for every commit."""


def apply(bed: Bed, wiki: Wiki, values: list[render.Values]) -> dict[str, str]:
    """Upgrade, wait, and give the pods that run afterwards."""
    bed.release(wiki.namespace).install(values)
    eventually(lambda: settled(bed, wiki.namespace), seconds=240)
    return bed.uids(wiki.namespace)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The components whose pods are not the same ones as before."""
    gone = {name for name, uid in before.items() if after.get(name) != uid}
    return {"mysql" if "-mysql-" in name else "xwiki" for name in gone}


@pytest.fixture(autouse=True)
def _back_to_normal(bed: Bed, wiki: Wiki, values: Values) -> Any:
    """Brings the shared wiki back to its generated values after each test."""
    yield
    apply(bed, wiki, values())


def test_an_upgrade_without_a_change_restarts_nothing(bed: Bed, wiki: Wiki, values: Values) -> None:
    before = bed.uids(wiki.namespace)
    revision = bed.release(wiki.namespace).revision()
    chart = bed.release(wiki.namespace)
    # Helm itself, not our shortcut that sees that nothing would change.
    chart._helm(["upgrade", "--install", chart.name, chart.chart, "--reuse-values"])
    eventually(lambda: settled(bed, wiki.namespace), seconds=60)
    assert chart.revision() == revision + 1
    assert changed(before, bed.uids(wiki.namespace)) == set()


def test_a_new_chart_version_alone_restarts_nothing(
    bed: Bed, wiki: Wiki, values: Values, chart_copy: Path
) -> None:
    before = bed.uids(wiki.namespace)
    for manifest in (chart_copy / "Chart.yaml", *chart_copy.glob("charts/*/Chart.yaml")):
        meta = yaml.safe_load(manifest.read_text())
        meta["version"] = NEWER
        for dependency in meta.get("dependencies", ()):
            dependency["version"] = NEWER
        manifest.write_text(yaml.safe_dump(meta))
    bumped = replace(bed.release(wiki.namespace), chart=chart_copy)
    assert bumped.install(values()) == "upgraded"
    eventually(lambda: settled(bed, wiki.namespace), seconds=60)
    assert changed(before, bed.uids(wiki.namespace)) == set()


@pytest.mark.parametrize(
    ("component", "change"),
    [
        ("xwiki", {"xwiki": {"java": {"maxGCPauseMillis": 150}}}),
        ("mysql", {"mysql": {"config": {"maxConnections": 111}}}),
    ],
)
def test_a_changed_setting_restarts_one_component(
    bed: Bed,
    wiki: Wiki,
    values: Values,
    component: str,
    change: dict[str, Any],
) -> None:
    before = bed.uids(wiki.namespace)
    assert changed(before, apply(bed, wiki, values(change))) == {component}


def test_a_rotated_password_works_and_the_old_one_is_refused(
    bed: Bed, wiki: Wiki, values: Values
) -> None:
    wiki.write("Rotation", "before")
    name = f"{render.RELEASE}-mysql"
    old = wiki.password("mysql", "xwiki-password")
    new = credentials.random(credentials.PASSWORD_LENGTH)
    body = {"data": {"xwiki-password": credentials.encode(new)}}
    bed.kube.patch("Secret", name, wiki.namespace, body)
    revision = {"secretRevision": "rotated"}
    apply(bed, wiki, values({"xwiki": revision, "mysql": revision}))
    eventually(lambda: wiki.shows("Rotation", "before"), seconds=120)
    assert login(bed, wiki, new) == "1"
    assert "denied" in login(bed, wiki, old)


def login(bed: Bed, wiki: Wiki, password: str) -> str:
    """Log in over TCP as XWiki does; what MySQL answers."""
    script = 'MYSQL_PWD="$(cat)" exec mysql -h 127.0.0.1 -u xwiki -N -B -e "SELECT 1" 2>&1'
    words = ["exec", "-i", "-n", wiki.namespace, "xwiki-stack-mysql-0", "-c", "mysql", "--"]
    answer = bed.kubectl(*words, "bash", "-c", script, stdin=password, check=False)
    return answer.out.strip() or answer.err.strip()


def test_a_raised_storage_size_is_never_a_refused_upgrade(
    bed: Bed, wiki: Wiki, values: Values
) -> None:
    claim = f"data-{render.RELEASE}-mysql-0"
    before = bed.uids(wiki.namespace)
    bed.release(wiki.namespace).install(values({"mysql": {"persistence": {"size": "70Gi"}}}))
    assert bed.release(wiki.namespace).state() == "deployed"
    eventually(lambda: settled(bed, wiki.namespace), seconds=60)
    assert changed(before, bed.uids(wiki.namespace)) == set()
    said = bed.cli("status")
    assert "70Gi" in said.stdout
    assert "xwiki-stack expand" in said.stdout
    # The bed's storage cannot grow a volume; the command says so instead of pretending.
    refused = bed.cli("expand")
    assert refused.returncode == 6, refused.stdout + refused.stderr
    assert "cannot expand" in refused.stderr
    # Where the class can, the claim takes the new size: as far as the API server decides.
    storage_class = bed.kube.get("PersistentVolumeClaim", claim, wiki.namespace)
    assert storage_class is not None
    class_name = storage_class["spec"]["storageClassName"]
    bed.kubectl("patch", "storageclass", class_name, "-p", '{"allowVolumeExpansion": true}')
    try:
        assert "now asks for 70Gi" in bed.cli("expand").stdout
    finally:
        bed.kubectl("patch", "storageclass", class_name, "-p", '{"allowVolumeExpansion": false}')
    grown = bed.kube.get("PersistentVolumeClaim", claim, wiki.namespace)
    assert grown is not None
    assert grown["spec"]["resources"]["requests"]["storage"] == "70Gi"
    assert "nothing to do" in bed.cli("expand").stdout


def test_a_raised_claim_template_is_refused_in_words_and_the_procedure_gets_it_in(
    bed: Bed, wiki: Wiki, values: Values
) -> None:
    """Expand the claim, take the StatefulSet away from its pod, install: nothing restarts."""
    before = bed.uids(wiki.namespace)
    larger = values({"mysql": {"persistence": {"size": "70Gi", "claimTemplateSize": "60Gi"}}})
    with pytest.raises(StackError, match="expand --recreate"):
        bed.release(wiki.namespace).install(larger)
    assert changed(before, bed.uids(wiki.namespace)) == set()
    try:
        assert "its pod runs on" in taken_away(bed, wiki)
        assert bed.uids(wiki.namespace) == before, "the pods went with their StatefulSet"
        assert changed(before, apply(bed, wiki, larger)) == set()
        assert sql(bed, wiki, "SELECT COUNT(*) > 0 FROM xwiki.xwikidoc") == "1"
    finally:
        taken_away(bed, wiki)


def taken_away(bed: Bed, wiki: Wiki) -> str:
    """What `expand --recreate` says, once the StatefulSet is gone."""
    said = bed.cli("expand", "--recreate")
    eventually(lambda: bed.kube.get("StatefulSet", "xwiki-stack-mysql", wiki.namespace) is None)
    return said.stdout + said.stderr


def test_what_was_deleted_by_hand_comes_back(bed: Bed, wiki: Wiki) -> None:
    """Helm's record says that all is installed; what counts is what the cluster holds."""
    name = "xwiki-stack-xwiki"
    bed.kubectl("delete", "deployment", name, "-n", wiki.namespace, "--wait=true")
    said = bed.cli("status")
    assert said.returncode == 5
    assert f"Deployment {name}" in said.stdout
    answer = bed.cli("up", "--port", str(WIKI_PORT))
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"Chart: upgraded", answer.stdout)
    assert settled(bed, wiki.namespace)
