"""Schemas of the kinds that others define, from CRDs that lie beside the checkout."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from xwiki_stack import loader, repo
from xwiki_stack.render import Manifest

FOLDER = repo.beside() / "upstream"

here = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="UNPROVEN: the charts of others are not beside the checkout"
)


class _Loader(loader.Loader):
    """The operator's CRDs have a bare `=` among the values of an enum."""


def _word(_loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:value", _word)


def read(path: Path) -> list[Manifest]:
    """The definitions of a file."""
    found = yaml.load_all(path.read_text(), Loader=_Loader)
    return [item for item in found if item and item["kind"] == "CustomResourceDefinition"]


@cache
def schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """Schema by apiVersion and kind, unknown fields refused."""
    found = {}
    for path in sorted(FOLDER.glob("*/crds/*.yaml")):
        for crd in read(path):
            spec = crd["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    found[key] = schema
    return found


def strict(node: Any) -> Any:
    """A schema without unknown fields, and with Kubernetes' own words in JSON Schema's."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if made.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    open_fields = made.get("x-kubernetes-preserve-unknown-fields")
    if (
        isinstance(made.get("properties"), dict)
        and made.get("type") == "object"
        and not open_fields
    ):
        made.setdefault("additionalProperties", False)
    return made


def mistakes(item: Manifest) -> list[str]:
    """What its CRD says against an object; that there is none is a mistake too."""
    key = (item["apiVersion"], item["kind"])
    if key not in schemas():
        return [f"no CRD has {key[0]} {key[1]}"]
    errors = jsonschema.Draft7Validator(schemas()[key]).iter_errors(item)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]
