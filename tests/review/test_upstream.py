"""CustomResourceDefinitions of the charts that Flux installs, where their data lies at hand."""

from functools import cache
from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.policy import Manifest
from xwiki_stack.review import changes, sources, verdicts

UPSTREAM = repo.beside() / "upstream"

pytestmark = pytest.mark.skipif(
    not UPSTREAM.is_dir(), reason=f"no data of upstream charts at {UPSTREAM}"
)


def charts() -> list[Path]:
    return sorted(path.parent for path in UPSTREAM.glob("*/crds")) if UPSTREAM.is_dir() else []


@cache
def definitions(chart: Path) -> list[Manifest]:
    files = sorted((chart / "crds").rglob("*.yaml"))
    every = [item for path in files for item in sources.objects_in(path, path.name)]
    return [item for item in every if item["kind"] == "CustomResourceDefinition"]


def test_there_are_charts_to_look_at() -> None:
    assert len(charts()) >= 5


@pytest.mark.parametrize("chart", charts(), ids=lambda path: path.name)
def test_a_definition_that_goes_takes_its_objects(chart: Path) -> None:
    every = definitions(chart)
    assert every, "the folder holds no definition"
    gone, kept = every[0], every[1:]
    (verdict,) = verdicts.judge(changes.compare("flux", "", every, kept))
    assert verdict.rule == "definition"
    assert verdict.finding.weight is verdicts.Weight.DATA
    assert f"every {gone['spec']['names']['kind']} of the cluster" in verdict.finding.text


@pytest.mark.parametrize("chart", charts(), ids=lambda path: path.name)
def test_the_same_definitions_differ_in_nothing(chart: Path) -> None:
    compared = changes.compare("flux", "", definitions(chart), definitions(chart))
    assert (compared.shown, compared.folded) == ([], {})
