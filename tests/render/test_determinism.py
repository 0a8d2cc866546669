"""The same input gives the same bytes, and a version alone touches nothing that runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from xwiki_stack import policy, render, repo

CHART_FILES = ("Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json", ".helmignore")


@pytest.fixture
def bumped(tmp_path: Path) -> Path:
    """A copy of the chart as Flux packages a later commit: every version moved."""
    for name in CHART_FILES:
        shutil.copy(repo.ROOT / name, tmp_path / name)
    for folder in ("charts", "templates"):
        shutil.copytree(repo.ROOT / folder, tmp_path / folder)
    metas = [tmp_path / "Chart.yaml", *tmp_path.glob("charts/*/Chart.yaml")]
    assert len(metas) == 5
    for path in metas:
        meta = yaml.safe_load(path.read_text())
        meta["version"] = "99.0.0+abcdef123456"
        meta["appVersion"] = "99.99.99"
        for dependency in meta.get("dependencies", []):
            dependency["version"] = "99.0.0+abcdef123456"
        path.write_text(yaml.safe_dump(meta))
    (tmp_path / "Chart.lock").unlink()
    return tmp_path


def without_version_labels(item: dict[str, Any]) -> dict[str, Any]:
    labels = item["metadata"]["labels"]
    kept = {key: labels[key] for key in labels if key not in policy.VERSION_LABELS}
    return {**item, "metadata": {**item["metadata"], "labels": kept}}


@pytest.mark.parametrize("environment", environments.names())
def test_the_same_values_give_the_same_bytes(environment: str) -> None:
    values = environments.values(environment)
    first, second = (render.helm_template_text(values=values) for _ in range(2))
    assert len(first) > 1000
    assert first == second


def test_a_version_bump_touches_metadata_labels_only(bumped: Path) -> None:
    values = environments.values("everything")
    before = list(environments.objects("everything"))
    after = render.helm_template(bumped, values)
    assert after != before, "the bump was not seen at all"
    assert [without_version_labels(item) for item in after] == [
        without_version_labels(item) for item in before
    ]


def test_every_object_says_what_it_belongs_to_and_in_which_version() -> None:
    wanted = {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
        "app.kubernetes.io/managed-by",
        *policy.VERSION_LABELS,
    }
    found = environments.objects("everything")
    assert len(found) >= 10
    bare = {
        f"{item['kind']}/{item['metadata']['name']}": missing
        for item in found
        if (missing := wanted - set(item["metadata"]["labels"]))
    }
    assert bare == {}
    part = {item["metadata"]["labels"].get("app.kubernetes.io/part-of") for item in found}
    assert part == {"xwiki-stack"}
