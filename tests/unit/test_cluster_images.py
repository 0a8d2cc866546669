"""The image table, and what follows from it for the chart."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from xwiki_stack import repo
from xwiki_stack.cluster import bed, engine, images, nodeimage, pins
from xwiki_stack.cluster.registry import Bed
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log


def test_every_line_says_what_it_is_and_what_it_does_not_prove() -> None:
    table = images.table()
    assert {"mysql", "xwiki", "node", "toolbox"} <= {image.name for image in table}
    assert len({image.name for image in table}) == len(table)
    for image in table:
        assert image.made, image.name
        assert image.not_covered, image.name
        assert image.used_by, image.name
        assert image.needed_for in ("up", "test"), image.name
        assert re.search(r"/.+:[\w.-]+(@sha256:[0-9a-f]{64})?$", image.upstream), image.name


def test_the_stand_in_is_called_one() -> None:
    (wiki,) = [image for image in images.table() if image.name == "xwiki"]
    assert wiki.stand_in
    assert "standin" in wiki.local
    assert images.describe(wiki.reference).startswith(f"{wiki.reference}: STAND-IN for ")
    assert "pulled" in images.describe(wiki.upstream)
    assert images.describe("example.org/unknown:1") == "example.org/unknown:1"


def test_on_the_offline_bed_the_chart_gets_local_images_everywhere() -> None:
    values = images.overrides(Bed.OFFLINE)
    assert values is not None
    mysql, wiki = values["mysql"]["image"], values["xwiki"]["image"]
    assert mysql == values["xwiki"]["database"]["clientImage"]
    assert mysql["repository"] == "xwiki-stack.local/mysql"
    assert wiki["repository"] == "xwiki-stack.local/xwiki-standin"
    for image in (mysql, wiki):
        assert re.fullmatch(r"[\w.]+-[0-9a-f]{16}", image["tag"])


def test_with_a_registry_nothing_is_overridden() -> None:
    assert images.overrides(Bed.REGISTRY) is None
    assert images.toolbox(Bed.REGISTRY).startswith("docker.io/")
    assert images.toolbox(Bed.OFFLINE) == nodeimage.TOOLBOX


def test_every_override_is_a_value_of_the_chart() -> None:
    looked = 0
    for chart in ("mysql", "xwiki", "backups"):
        values = yaml.safe_load((repo.ROOT / "charts" / chart / "values.yaml").read_text())
        for image in images.table():
            for path in image.values:
                head, *rest = path.split(".")
                if head != chart:
                    continue
                place = values
                for word in rest:
                    assert word in place, path
                    place = place[word]
                assert {"repository", "tag"} <= set(place), path
                looked += 1
    assert looked >= 3


def test_the_default_images_of_the_chart_are_the_tables_upstream() -> None:
    looked = 0
    for image in images.table():
        for path in image.values:
            chart, *rest = path.split(".")
            place = yaml.safe_load((repo.ROOT / "charts" / chart / "values.yaml").read_text())
            for word in rest:
                place = place[word]
            assert f"{place['repository']}:{place['tag']}".partition("@")[0] == image.upstream
            looked += 1
    assert looked >= 3


def test_every_recipe_folder_has_a_build_script() -> None:
    made = images.made_here(tests=True)
    assert {image.name for image in made} >= {"mysql", "xwiki"}
    for image in made:
        script = image.source / "build"
        assert script.is_file(), image.folder
        assert script.stat().st_mode & 0o100, f"{image.folder}/build is not executable"


def test_a_missing_recipe_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        @staticmethod
        def has_image(_reference: str) -> bool:
            return False

    image = images.Image("x", "a/b:1", "l/x", "m", False, "n", "u", "up", "1", "ci/bed/go/pause")
    monkeypatch.setattr(engine, "require", Empty)
    with pytest.raises(MachineError, match="ci/bed/go/pause/build is missing"):
        images.build(image, Log(tmp_path / "log", lambda _text: None))


def test_the_tag_follows_the_recipes_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo, "ROOT", tmp_path)
    (tmp_path / "recipe").mkdir()
    file = tmp_path / "recipe" / "build"
    file.write_text("one")
    image = images.Image("x", "a/b:1", "l/x", "m", False, "n", "u", "up", "1.2", "recipe")
    first = image.reference
    assert first.startswith("l/x:1.2-")
    file.write_text("two")
    assert image.reference != first


def test_the_tag_follows_what_goes_in_from_elsewhere_and_what_it_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo, "ROOT", tmp_path)
    for name in ("recipe", "below", "package"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("one")
    below = images.Image("b", "a/b:1", "l/b", "m", False, "n", "u", "up", "1", "below")
    image = dataclasses.replace(
        below, name="x", local="l/x", folder="recipe", inputs=("package",), base="b"
    )
    monkeypatch.setattr(images, "table", lambda: (below, image))
    seen = {image.reference}
    for name in ("recipe", "below", "package"):
        (tmp_path / name / "file").write_text("two")
        seen.add(image.reference)
    assert len(seen) == 4


def test_an_image_that_stands_on_another_waits_for_it() -> None:
    steps = {step.name: step for step in bed._offline_steps(bed.Config(name="x", extras=True), [])}
    looked = [image for image in images.made_here(tests=True) if image.base]
    assert looked
    for image in looked:
        assert f"image-{image.base}" in steps[f"image-{image.name}"].needs
    # Else the base would not be there when only what `up` needs is made.
    for image in images.made_here(tests=False):
        assert not image.base or images.named(image.base).needed_for == "up"


def test_every_image_that_the_beds_manifests_use_is_in_the_table_and_preloaded() -> None:
    manifests = sorted((nodeimage.RECIPE / "files/kind/manifests").glob("*.yaml"))
    used = {
        name for manifest in manifests for name in re.findall(r"image: (\S+)", manifest.read_text())
    }
    assert len(used) >= 3
    table = {image.local for image in images.table()}
    assert used <= table
    version = pins.modules()["kubernetes"].version
    for part in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        assert f"registry.k8s.io/{part}:v{version}" in table
    assert {nodeimage.CORE_DNS, nodeimage.ETCD, nodeimage.PAUSE} <= table
