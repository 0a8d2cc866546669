"""What every environment renders to, once per run: for the sweeps of render and policy tests."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import demo, generate, intent, render, repo, up
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.render import Manifest, Values

DATA = repo.ROOT / "tests" / "data"
EVERYTHING = DATA / "everything.yaml"
"""Every option of every chart at something else than its default."""


def names() -> list[str]:
    """Those that are generated, a decided prod, every option, no option."""
    generated = [path.parent.name for path in generate.GENERATED.glob("*/xwiki-stack.yaml")]
    return [*sorted(generated), "prod-decided", "everything", "defaults"]


def values(environment: str) -> list[Values]:
    """The values of an environment."""
    own: dict[str, list[Values]] = {"everything": [EVERYTHING], "defaults": []}
    if environment == "prod-decided":
        return [decided()]
    return own.get(environment, [generate.path_of(environment)])


def decided() -> dict[str, object]:
    """Generated values of the prod that tests decide, on example.org."""
    document: dict[str, object] = yaml.safe_load(generate.text_of(*decided_prod()))
    return document


def decided_prod() -> tuple[Environment, Cluster]:
    """The prod that tests decide, and its cluster."""
    folder = DATA / "decided"
    return intent.load_environment("prod", folder), intent.load_cluster("main", folder)


@cache
def objects(environment: str) -> tuple[Manifest, ...]:
    """The objects of an environment."""
    return tuple(render.helm_template(values=values(environment)))


def namespaces() -> list[Manifest]:
    """Every namespace of ours: of local wikis, of the demo, and those that Flux applies."""
    local = [intent.load_environment(name) for name in intent.environments()]
    made = [up.namespace(env.namespace) for env in local if env.purpose == "local"]
    made.append(demo.namespace())
    return made + [item for item in tree() if item["kind"] == "Namespace"]


def tree() -> list[Manifest]:
    """Every object of Kubernetes that lies below flux/, as it is applied; not what is sealed."""
    paths = sorted((repo.ROOT / "flux").rglob("*.yaml"))
    found = [documents(path) for path in paths if not path.name.endswith(".sops.yaml")]
    return [item for file in found for item in file if {"kind", "metadata"} <= item.keys()]


def chart(name: str, *own: dict[str, Any]) -> list[Manifest]:
    """One subchart on its own."""
    return list(_chart(name, json.dumps(own)))


@cache
def _chart(name: str, own: str) -> tuple[Manifest, ...]:
    return tuple(render.helm_template(repo.ROOT / "charts" / name, json.loads(own)))


def only(found: list[Manifest] | tuple[Manifest, ...], kind: str, ending: str = "") -> Manifest:
    """The one object of a kind whose name ends so."""
    (item,) = [
        item for item in found if item["kind"] == kind and item["metadata"]["name"].endswith(ending)
    ]
    return item


def documents(path: Path) -> list[Manifest]:
    """The objects of a manifest file."""
    return render.documents(path.read_text())
