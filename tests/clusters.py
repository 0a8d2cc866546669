"""Clusters that differ in what they are made of, and the tree that Flux would find for each."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.environments import DATA
from xwiki_stack import cluster as tools
from xwiki_stack import gitops, intent, loader, proc, render, repo
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.render import Manifest

VAULT = {"backend": "vault", "server": "https://v.example.org", "path": "kv", "role": "stack"}

VARIANTS: dict[str, dict[str, Any]] = {
    "decided": {},
    "ovh": {"challenge": "dns", "nodes": 3, "email": ""},
    "cloudflare": {"challenge": "dns", "dns": "cloudflare"},
    "traefik": {"ingress": "traefik", "ingress_class": "", "challenge": "dns"},
    "vault": {"secrets": VAULT, "logs": "loki", "challenge": "dns"},
    "inside": {"ingress": "none", "dns": "none", "logs": "loki"},
    "bare": {"ingress": "none", "dns": "none", "metrics": False, "driver": "local-path"},
}
"""Facts that differ from the decided cluster's."""

NAMES = ["main", *VARIANTS]
"""`main` is the one that is committed, with its open decisions."""


def of(name: str) -> tuple[Cluster, list[Environment]]:
    """A cluster, and all that it carries."""
    if name == "main":
        return intent.load_cluster("main"), intent.environments_of("main")
    decided = DATA / "decided"
    found = dataclasses.replace(intent.load_cluster("main", decided), **VARIANTS[name])
    (prod,) = intent.environments_of("main", decided)
    staging = intent.load_environment("staging")
    host = intent.host_of("staging", found)
    return found, [prod, dataclasses.replace(staging, host=host)]


@cache
def files(name: str) -> dict[str, str]:
    """The generated files of a cluster by their path."""
    return gitops.files(*of(name), _flux(name))


def values(name: str) -> dict[str, dict[str, Any]]:
    """The values of a cluster's upstream releases."""
    return {
        Path(path).stem: yaml.load(text, loader.Loader)  # noqa: S506 - safe
        for path, text in files(name).items()
        if Path(path).stem in gitops.RELEASES
    }


def parts(name: str) -> dict[str, gitops.Part]:
    """The parts of a cluster by name, in their order."""
    found, carried = of(name)
    decided = [env for env in carried if not env.undecided]
    return {part.name: part for part in gitops.parts(found, decided, _flux(name))}


def before(name: str) -> dict[str, set[str]]:
    """All parts that are healthy before a part begins, by its name."""
    return earlier(parts(name).values())


def earlier(ordered: Iterable[gitops.Part]) -> dict[str, set[str]]:
    """As `before`, of parts in their order."""
    found: dict[str, set[str]] = {}
    for part in ordered:
        found[part.name] = set(part.needs).union(*(found[need] for need in part.needs))
    return found


@cache
def built(name: str) -> dict[str, tuple[Manifest, ...]]:
    """What kustomize makes of each part of this repository, by the part's name; "" is the entry."""
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-tree-") as folder:
        top = Path(folder)
        for kept in ("infra", "release"):
            shutil.copytree(repo.ROOT / "flux" / kept, top / "flux" / kept)
        for path, text in files(name).items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
        for sealed in _flux(name).rglob("*.sops.yaml"):
            copy = top / sealed.relative_to(repo.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sealed, copy)
        # What is written by hand is the same for every cluster, and built once from where it lies.
        own = {
            part.name: (top if part.path in folders(name) else repo.ROOT) / part.path
            for part in parts(name).values()
            if part.source == gitops.SOURCE
        }
        own[""] = top / "flux" / "clusters" / "main"
        return {part: kustomized(path) for part, path in own.items()}


def folders(name: str) -> set[str]:
    """The folders of a cluster's generated files."""
    return {str(Path(path).parent) for path in files(name)}


@cache
def kustomized(folder: Path) -> tuple[Manifest, ...]:
    """What kustomize makes of a folder, as Flux asks it: files may lie elsewhere in the tree."""
    words = ["kustomize", "--load-restrictor", "LoadRestrictionsNone"]
    said = proc.run([tools.tools().kubectl, *words, folder]).out
    return tuple(render.documents(said))


def objects(name: str) -> list[tuple[str, Manifest]]:
    """Every object of a cluster's tree with the part that applies it, without sops' own field."""
    return [
        (part, {key: value for key, value in item.items() if key != "sops"})
        for part, found in built(name).items()
        for item in found
    ]


def _flux(name: str) -> Path:
    """The folder whose sealed Secrets count: an operator's own belong to the committed cluster."""
    return repo.ROOT / "flux" if name == "main" else repo.ROOT / "flux" / "nothing-sealed"
