"""The objects that scanners are asked about."""

from collections.abc import Mapping, Sequence

import yaml

from xwiki_stack import generate, intent, render, repo
from xwiki_stack.render import Manifest

DATA = repo.ROOT / "tests" / "data"
"""A decided prod and every option: what no environment of ours is yet, and tests are made of."""

PRODUCTION = "prod-decided"
"""The environment that is compared with charts of others."""

Objects = Mapping[str, Sequence[Manifest]]
"""By environment."""


def environments() -> dict[str, list[Manifest]]:
    """The objects of every environment that is generated, of a decided prod, and of every option.

    Each in its own namespace, which Helm would say at the installation.
    """
    values: dict[str, render.Values] = {
        path.parent.name: path for path in generate.GENERATED.glob("*/xwiki-stack.yaml")
    }
    prod = intent.load_environment("prod", DATA / "decided")
    main = intent.load_cluster("main", DATA / "decided")
    values[PRODUCTION] = yaml.safe_load(generate.text_of(prod, main))
    values["everything"] = DATA / "everything.yaml"
    return {
        name: namespaced(render.helm_template(values=[own]), f"wiki-{name}")
        for name, own in sorted(values.items())
    }


def namespaced(objects: Sequence[Manifest], namespace: str) -> list[Manifest]:
    """The objects as they are once they are applied to a namespace."""
    return [{**item, "metadata": {"namespace": namespace, **item["metadata"]}} for item in objects]
