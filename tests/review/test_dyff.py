"""Our comparison beside dyff's, on what this repository and the charts of others went through.

Each must name what the other names. What ours folds as noise is the exception, and is counted.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import clusters
from tests.review import test_history as history
from tests.review import test_upstream as upstream
from tests.review.dyff import Pair
from xwiki_stack import render
from xwiki_stack import upstream as charts
from xwiki_stack.policy import Manifest
from xwiki_stack.review import changes, sources
from xwiki_stack.review.changes import Change, Comparison, Difference

EVERYTHING = "tests/data/everything.yaml"

HISTORY = {
    "a field": (f"{history.POLICY}^", history.POLICY, 3),
    "files, with their checksum": (f"{history.FIRST_BOOT}^", history.FIRST_BOOT, 12),
    "keys of a Secret": (f"{history.KEYS}^", history.KEYS, 3),
    "mistakes that are refused": (history.POLICY, "562cb42", 60),
    "backups": (history.BEFORE_BACKUPS, history.WITH_BACKUPS, 8),
    "drills, exporter and alerts": (history.WITH_BACKUPS, "06f2841", 35),
    "policies, and shares of a disk": ("06f2841", "522d2cc", 100),
    "the tree of Flux": ("88c00cc", "b2ef5ee", 30),
}
"""Two commits, and at how many places both comparisons find a difference, at least."""


def agreed(old: list[Manifest], new: list[Manifest], folder: Path) -> int:
    """At how many places both say that two lists of objects differ.

    AssertionError, where one of them is alone with a place, and that is not noise.
    """
    pair = Pair(old, new)
    ours, theirs = pair.ours(), pair.theirs(folder)
    assert sorted(map(str, pair.alone(ours, theirs))) == [], "dyff does not name these"
    assert pair.noise(pair.alone(theirs, ours)) == pair.folded(), "dyff names more"
    return len(ours & theirs)


@history.pytestmark
@pytest.mark.parametrize("what", HISTORY)
def test_what_this_repository_went_through(what: str, tmp_path: Path) -> None:
    """Every environment, every option, and the files that Flux reads."""
    start, end, least = HISTORY[what]
    with sources.trees(start, end) as both:
        found = [[tree.objects(env) for tree in both] for env in sources.environments(both)]
        found.append([tree.files() for tree in both])
        if all((tree.root / EVERYTHING).is_file() for tree in both):
            every = [render.helm_template(tree.root, [tree.root / EVERYTHING]) for tree in both]
            found.append(every)
    assert sum(agreed(old, new, tmp_path) for old, new in found) >= least


@history.pytestmark
def test_another_version_of_the_chart_is_left_out_as_often_as_dyff_names_it(tmp_path: Path) -> None:
    with sources.trees("522d2cc", "522d2cc") as both:
        root = both[1].root
        for path in (root / "Chart.yaml", *root.glob("charts/*/Chart.yaml")):
            number = re.compile(r"^( *(?:version|appVersion): ).*", re.M)
            path.write_text(number.sub(r'\1"9.8.7"', path.read_text()))
        old, new = (tree.objects("staging") for tree in both)
    assert agreed(old, new, tmp_path) == 0
    assert set(Pair(old, new).folded()) == {"chart label", "version label"}
    assert min(Pair(old, new).folded().values()) >= 10


def ends(item: Manifest) -> Iterator[Manifest]:
    """A definition with the first of its versions alone, and with the last."""
    for version in sorted(item["spec"]["versions"], key=lambda one: str(one["name"])):
        yield {**item, "spec": {**item["spec"], "versions": [{**version, "name": "v0"}]}}


@upstream.pytestmark
def test_what_definitions_of_others_went_through(tmp_path: Path) -> None:
    """Several hold the schemas of more than one version: the first and the last are compared."""
    every = [item for chart in upstream.charts() for item in upstream.definitions(chart)]
    several = [list(ends(item)) for item in every if len(item["spec"]["versions"]) > 1]
    assert len(several) >= 15
    assert agreed([one[0] for one in several], [one[-1] for one in several], tmp_path) >= 500


def of_releases(name: str) -> dict[str, Manifest]:
    """The values of a cluster's releases, as a review has them."""
    return {
        release: {"kind": "Values", "metadata": {"name": release}, "values": found}
        for release, found in clusters.values(name).items()
    }


@upstream.pytestmark
def test_what_we_make_of_the_values_of_charts_of_others(tmp_path: Path) -> None:
    """What the charts come with, and the same below what a cluster gives them."""
    old, new = [], []
    for release, given in of_releases("decided").items():
        path = upstream.UPSTREAM / release / "values.yaml"
        if path.is_file():
            own = yaml.safe_load(path.read_text()) or {}
            old.append({**given, "values": own})
            new.append({**given, "values": charts.merged(own, given["values"])})
    assert len(old) >= 5
    assert agreed(old, new, tmp_path) >= 100


@pytest.mark.parametrize("name", [name for name in clusters.NAMES if name != "decided"])
def test_what_one_cluster_and_another_give_to_charts_of_others(name: str, tmp_path: Path) -> None:
    old, new = (list(of_releases(one).values()) for one in ("decided", name))
    assert agreed(old, new, tmp_path) >= 2


def wiki(image: str, replicas: int) -> Manifest:
    return {
        "apiVersion": "example.org/v1",
        "kind": "Wiki",
        "metadata": {"name": "wiki"},
        "spec": {"replicas": replicas, "containers": [{"name": "wiki", "image": image}]},
    }


def forgotten(item: Difference) -> Difference:
    return replace(item, changes=item.changes[1:])


def invented(item: Difference) -> Difference:
    return replace(item, changes=(*item.changes, Change("metadata.name", "wiki", "wiki")))


def folded(item: Difference) -> Difference:
    return replace(item, changes=item.changes[1:], folded=("chart label",))


def blurred(item: Difference) -> Difference:
    assert item.old and item.new
    return replace(item, changes=(Change("spec", item.old["spec"], item.new["spec"]),))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (forgotten, "dyff names more"),
        (invented, "dyff does not name these"),
        (folded, "dyff names more"),
        (blurred, "dyff does not name these"),
    ],
)
def test_a_comparison_that_errs_is_noticed(
    mistake: Callable[[Difference], Difference],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = [wiki("a", 1)], [wiki("b", 2)]
    assert agreed(old, new, tmp_path) == 4
    real = changes.compare

    def compare(*words: Any) -> Comparison:
        found = real(*words)
        return replace(found, differences=tuple(mistake(item) for item in found.differences))

    monkeypatch.setattr(changes, "compare", compare)
    with pytest.raises(AssertionError, match=words):
        agreed(old, new, tmp_path)
