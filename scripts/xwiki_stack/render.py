"""Helm's output as objects."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from xwiki_stack import cluster, loader, proc, repo
from xwiki_stack.errors import IntentError, StackError

RELEASE = "xwiki-stack"
"""The release name, one per environment namespace."""

Manifest = dict[str, Any]
Values = Path | dict[str, Any]


def helm_template(
    chart: Path = repo.ROOT,
    values: Sequence[Values] = (),
    release: str = RELEASE,
    namespace: str = "wiki-local",
    *,
    helm: Path | None = None,
    show_only: Sequence[str] = (),
) -> list[Manifest]:
    """Render a chart with values files or dicts, the later winning, into its objects.

    helm: another one than the pinned one.
    Raises IntentError with Helm's own words when the chart refuses the values.
    """
    text = helm_template_text(chart, values, release, namespace, helm=helm, show_only=show_only)
    return documents(text)


def documents(text: str) -> list[Manifest]:
    """The objects of a manifest. Raises yaml.YAMLError."""
    return [item for item in yaml.load_all(text, loader.Loader) if item]


def helm_template_text(
    chart: Path = repo.ROOT,
    values: Sequence[Values] = (),
    release: str = RELEASE,
    namespace: str = "wiki-local",
    *,
    helm: Path | None = None,
    show_only: Sequence[str] = (),
) -> str:
    """As `helm_template`, but the bytes Helm printed."""
    only = [word for template in show_only for word in ("--show-only", template)]
    return _helm(chart, values, "template", release, "--namespace", namespace, *only, helm=helm)


def helm_notes(
    values: Sequence[Values] = (), release: str = RELEASE, namespace: str = "wiki-local"
) -> str:
    """What Helm tells who installs the umbrella; asked without a cluster.

    Raises IntentError with Helm's own words when the chart refuses the values.
    """
    dry = ["--dry-run=client", "--output=json"]
    said = _helm(repo.ROOT, values, "install", release, "--namespace", namespace, *dry)
    return str(json.loads(said)["info"].get("notes", ""))


def _helm(
    chart: Path,
    values: Sequence[Values],
    verb: str,
    release: str,
    *words: str,
    helm: Path | None = None,
) -> str:
    """What a verb of Helm prints for a chart and its values."""
    with TemporaryDirectory(prefix="xwiki-stack-render-") as folder:
        argv: list[str | Path] = [helm or cluster.tools().helm, verb, release, chart, *words]
        for path in values_files(values, Path(folder)):
            argv += ["--values", path]
        try:
            return proc.run(argv).out
        except proc.CommandFailed as failed:
            raise IntentError(explain(failed.tail), where=repo.relative(chart)) from failed


def values_files(values: Sequence[Values], folder: Path) -> list[Path]:
    """The values as files, dicts written to `folder`, in the order given."""
    paths: list[Path] = []
    for number, item in enumerate(values):
        if isinstance(item, Path):
            if not item.is_file():
                raise StackError(
                    "the values file is missing",
                    where=repo.relative(item),
                    next="run `xwiki-stack generate`",
                )
            paths.append(item)
        else:
            path = folder / f"values-{number}.yaml"
            path.write_text(yaml.safe_dump(item))
            paths.append(path)
    return paths


def explain(said: str) -> str:
    """Helm's complaint without its prefixes, on one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Use --debug", "WARNING"))]
    return " ".join(useful).removeprefix("Error: ") or "helm failed without a word"
