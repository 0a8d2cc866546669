"""What is packaged, that the lock is true, and that the other Helm renders the same."""

import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from xwiki_stack import cluster, generate, proc, render, repo

PARTS = ("Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json", ".helmignore")


def copy(target: Path) -> Path:
    """The chart and everything that stands beside it in the checkout."""
    shutil.copytree(
        repo.ROOT,
        target,
        ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "*.egg-info"),
    )
    return target


def packaged(chart: Path, folder: Path) -> set[str]:
    """The files of the package that Helm makes of a chart."""
    proc.run([cluster.tools().helm, "package", chart, "--destination", folder])
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames()}
    archive.unlink()
    return names


def expected(chart: Path) -> set[str]:
    """The chart's own files and all of its subcharts' and templates."""
    own = {"Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json"}
    folders = [*chart.glob("charts/**/*"), *chart.glob("templates/**/*")]
    below = {path.relative_to(chart).as_posix() for path in folders if path.is_file()}
    return own | below | {"LICENSE", "README.md"}


def test_the_package_holds_the_chart_and_nothing_else(tmp_path: Path) -> None:
    chart = copy(tmp_path / "chart")
    # A folder of this name at any depth would be dropped by an ignore line without a slash.
    inner = chart / "charts" / "xwiki" / "templates" / "tests"
    inner.mkdir()
    (inner / "_kept.tpl").write_text("{{/* kept */}}\n")
    found = packaged(chart, tmp_path)
    assert found == expected(chart)
    assert "charts/xwiki/templates/tests/_kept.tpl" in found


def test_an_ignore_line_without_a_slash_would_be_noticed(tmp_path: Path) -> None:
    chart = copy(tmp_path / "chart")
    inner = chart / "charts" / "xwiki" / "templates" / "tests"
    inner.mkdir()
    (inner / "_kept.tpl").write_text("{{/* kept */}}\n")
    ignore = chart / ".helmignore"
    ignore.write_text(ignore.read_text().replace("/tests/", "tests/"))
    assert packaged(chart, tmp_path) != expected(chart)


def test_every_ignore_line_is_anchored() -> None:
    lines = [
        line
        for line in (repo.ROOT / ".helmignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(lines) > 5
    assert all(line.startswith("/") and "**" not in line for line in lines)


def locked(chart: Path) -> dict[str, object]:
    """What a lock says, less the time at which it was made."""
    lock: dict[str, object] = yaml.safe_load((chart / "Chart.lock").read_text())
    return {key: value for key, value in lock.items() if key != "generated"}


def relock(chart: Path) -> dict[str, object]:
    """What the lock says that Helm makes anew."""
    (chart / "Chart.lock").unlink()
    proc.run([cluster.tools().helm, "dependency", "update", chart])
    return locked(chart)


def small(target: Path) -> Path:
    target.mkdir()
    for part in PARTS:
        shutil.copy(repo.ROOT / part, target / part)
    shutil.copytree(repo.ROOT / "charts", target / "charts")
    return target


def test_the_lock_is_what_helm_would_write(tmp_path: Path) -> None:
    ours = locked(repo.ROOT)
    assert set(ours) == {"dependencies", "digest"}
    assert relock(small(tmp_path / "chart")) == ours


@pytest.mark.parametrize("edit", [("name: mysql", "name: mysqld"), ("digest: sha256:", "digest: ")])
def test_a_lock_that_was_edited_is_noticed(tmp_path: Path, edit: tuple[str, str]) -> None:
    """Also where the digest, which Helm reckons from Chart.yaml as well, was left alone."""
    chart = small(tmp_path / "chart")
    lock = chart / "Chart.lock"
    lock.write_text(lock.read_text().replace(*edit))
    edited = locked(chart)
    assert edited != locked(repo.ROOT)
    assert relock(chart) != edited


def test_a_subchart_bumped_alone_is_refused(tmp_path: Path) -> None:
    chart = small(tmp_path / "chart")
    manifest = chart / "charts" / "mysql" / "Chart.yaml"
    manifest.write_text(manifest.read_text().replace("version: 0.1.0", "version: 0.2.0", 1))
    with pytest.raises(proc.CommandFailed):
        relock(chart)


def test_helm_3_renders_the_same_objects() -> None:
    """Helm 3 is past its support; one render says that nobody on it is left out."""
    older = cluster.tools().helm3
    assert older.is_file(), "run `make test` or `make check` once: it makes Helm 3"
    values = [generate.path_of("staging")]
    options = ["--kube-version", "1.36.3"]
    argv: list[str | Path] = ["template", render.RELEASE, repo.ROOT]
    argv += ["--values", *values, *options]
    three, four = (
        list(yaml.safe_load_all(proc.run([helm, *argv]).out))
        for helm in (older, cluster.tools().helm)
    )
    assert len(four) >= 10
    assert sorted(map(str, three)) == sorted(map(str, four))
