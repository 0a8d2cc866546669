"""What people decide: facts of clusters, intents of environments; loaded, checked, explained."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, ValidationError

from xwiki_stack import repo
from xwiki_stack.errors import IntentError

VALUES = repo.ROOT / "values"
UNDECIDED = "undecided"

MYSQL_LINES = {"9.7": "9.7.1", "8.4": "8.4.10"}
"""Allowed LTS line to the image tag it means (newest official tags known when written)."""

XWIKI_MINIMUM = ((17, 10, 12), (18, 4, 4), (18, 7, 0))
"""Lowest release of each line that runs on a read-only root file system (XDOCKER-417, -427)."""


@dataclass(frozen=True)
class Cluster:
    """Facts of a cluster. `cpu` and `memory` are allocatable per node: cores, bytes."""

    name: str
    project: str
    nodes: int
    cpu: float
    memory: int
    driver: str
    expandable: bool
    ingress: str
    ingress_class: str
    issuer: str


@dataclass(frozen=True)
class Environment:
    """An intent. `undecided` lists the open blocking decisions as `key (decision N)`, for prod."""

    name: str
    path: Path
    cluster: str
    purpose: str
    namespace: str
    host: str
    xwiki: str
    mysql: str
    size: str
    mysql_storage: str
    mysql_claim_template: str
    xwiki_storage: str
    flavor: str
    xip: dict[str, str]
    secret_revision: str
    digests: dict[str, str]
    backups: dict[str, Any]
    undecided: tuple[str, ...]


def environments() -> list[str]:
    """Names of all environments."""
    return sorted(path.stem for path in (VALUES / "envs").glob("*.yaml"))


def load_cluster(name: str, values: Path = VALUES) -> Cluster:
    """A cluster's facts. Raises IntentError with every mistake of the file."""
    document = _load(values, "clusters", name, "cluster")
    nodes, ingress = document["nodes"], document["ingress"]
    return Cluster(
        name=name,
        project=document["project"],
        nodes=nodes["count"],
        cpu=cores_of(nodes["cpu"]),
        memory=bytes_of(nodes["memory"]),
        driver=document["storage"]["driver"],
        expandable=document["storage"]["expandable"],
        ingress=ingress["controller"],
        ingress_class=ingress.get("className", ""),
        issuer=ingress.get("issuer", ""),
    )


def load_cluster_of(env: str) -> Cluster:
    """The facts of the cluster that carries an environment."""
    return load_cluster(load_environment(env).cluster)


def load_environment(name: str, values: Path = VALUES) -> Environment:
    """An environment's intent. Raises IntentError with every mistake of the file."""
    document = _load(values, "envs", name, "environment")
    path = values / "envs" / f"{name}.yaml"
    where = repo.relative(path)
    known = sorted(item.stem for item in (values / "clusters").glob("*.yaml"))
    if document["cluster"] not in known:
        raise IntentError(
            f"{document['cluster']!r} is no cluster",
            where=f"{where}: cluster",
            allowed=", ".join(known),
            next=f"name one of them, or write values/clusters/{document['cluster']}.yaml",
        )
    _refuse_versions(document, where)
    storage = document["storage"]
    template = storage.get("mysqlClaimTemplate", "50Gi")
    if bytes_of(storage["mysql"]) < bytes_of(template):
        raise IntentError(
            f"{storage['mysql']} is less than a new volume is born with ({template})",
            where=f"{where}: storage.mysql",
            next="raise it, or lower storage.mysqlClaimTemplate before the first install",
        )
    if document["flavor"] == "xip" and "xip" not in document:
        raise IntentError(
            "flavor is xip and nothing says where the archive lies",
            where=f"{where}: xip",
            next="add xip.claim and xip.path",
        )
    project = load_cluster(document["cluster"], values).project
    return Environment(
        name=name,
        path=path,
        cluster=document["cluster"],
        purpose=document["purpose"],
        namespace=f"{project}-{name}",
        host=document["host"],
        xwiki=document["xwiki"],
        mysql=document["mysql"],
        size=document["size"],
        mysql_storage=storage["mysql"],
        mysql_claim_template=template,
        xwiki_storage=storage["xwiki"],
        flavor=document["flavor"],
        xip=document.get("xip", {}),
        secret_revision=document.get("secretRevision", ""),
        digests=document.get("images", {}),
        backups=document.get("backups", {}),
        undecided=_undecided(document),
    )


def _undecided(document: dict[str, Any]) -> tuple[str, ...]:
    """The open blocking decisions of a prod intent (mission, section 12: 1 to 4)."""
    if document["purpose"] != "prod":
        return ()
    backups = document.get("backups", {})
    values = {
        "mysql (decision 1)": document["mysql"],
        "backups.target (decision 2)": backups.get("target", UNDECIDED),
        "host (decision 3)": document["host"],
        "backups.rpo (decision 4)": backups.get("rpo", UNDECIDED),
        "backups.rto (decision 4)": backups.get("rto", UNDECIDED),
    }
    return tuple(key for key, value in values.items() if value == UNDECIDED)


def _refuse_versions(document: dict[str, Any], where: str) -> None:
    line = document["mysql"]
    if line != UNDECIDED and line not in MYSQL_LINES:
        inside = next((known for known in MYSQL_LINES if line.startswith(f"{known}.")), "")
        raise IntentError(
            f"MySQL {line} is a single release of an LTS line; the line is what is decided"
            if inside
            else f"MySQL {line} is no LTS line; innovation releases soon get no more fixes",
            where=f"{where}: mysql",
            allowed=", ".join(f'"{known}"' for known in MYSQL_LINES),
            next=f'write "{inside}"' if inside else 'write "9.7", the tested one',
        )
    wanted = tuple(int(part) for part in document["xwiki"].split("."))
    floor = next((low for low in XWIKI_MINIMUM if low[:2] == wanted[:2]), XWIKI_MINIMUM[-1])
    if wanted < floor:
        text = ", ".join(".".join(map(str, low)) for low in XWIKI_MINIMUM)
        raise IntentError(
            f"XWiki {document['xwiki']} does not run without root on a read-only file system",
            where=f"{where}: xwiki",
            allowed=f"at least {text}",
            next="write 17.10.13, the tested LTS release",
        )


def _load(values: Path, folder: str, name: str, kind: str) -> dict[str, Any]:
    path = values / folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(item.stem for item in (values / folder).glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1)
        raise IntentError(
            f"there is no {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            where=repo.relative(path),
            allowed=", ".join(known),
        )
    where = repo.relative(path)
    document = _parse(path, where)
    schema = json.loads((VALUES / "schemas" / f"{kind}.schema.json").read_text())
    mistakes = [
        line
        for error in sorted(Draft7Validator(schema).iter_errors(document), key=_place)
        for line in _words(error)
    ]
    if mistakes:
        raise IntentError(
            " | ".join(mistakes), where=where, next=f"values/schemas/{kind}.schema.json has it all"
        )
    checked: dict[str, Any] = document
    return checked


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: a key given twice is a mistake, not a silent choice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _value in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key.value!r} stands twice (line {line})", key.start_mark
            )
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(path: Path, where: str) -> Any:
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as broken:
        line = broken.problem_mark.line + 1 if broken.problem_mark else 0
        raise IntentError(
            f"not YAML: {broken.problem}", where=f"{where}:{line}", next="correct that line"
        ) from broken


def _place(error: ValidationError) -> str:
    return "/".join(str(part) for part in error.absolute_path)


def _words(error: ValidationError) -> Iterator[str]:
    """A schema's complaint as a person would say it, with the nearest allowed word."""
    place = ".".join(str(part) for part in error.absolute_path)
    # A rule's own value and the value it looks at; jsonschema types both as anything or unset.
    rule: Any = error.validator_value
    given: Any = error.instance
    dot = f"{place}." if place else ""
    schema: dict[str, Any] = dict(error.schema) if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties":
        known = sorted(schema["properties"])
        for key in sorted(set(given) - set(known)):
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            yield f"{dot}{key}: unknown key{hint} (allowed: {', '.join(known)})"
    elif error.validator == "required":
        for key in rule:
            if key not in given:
                text = schema["properties"].get(key, {}).get("description", "")
                yield f"{dot}{key}: is missing ({text.rstrip('.')})"
                return
    elif error.validator == "enum":
        allowed = ", ".join(map(str, rule))
        near = difflib.get_close_matches(str(given), map(str, rule), 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        yield f"{place}: {given!r} is not allowed{hint} (allowed: {allowed})"
    else:
        text = schema.get("description", error.message).rstrip(".")
        wanted = f"; form: {schema['pattern']}" if "pattern" in schema else ""
        yield f"{place or 'file'}: {given!r} does not fit ({text}{wanted})"


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)$")


def bytes_of(quantity: str) -> int:
    """A Kubernetes quantity of bytes as a number: 50Gi is 53687091200.

    Raises IntentError for what is no quantity.
    """
    match = _QUANTITY.match(quantity)
    if not match or (match[2] and match[2] not in _UNITS):
        raise IntentError(f"{quantity!r} is no quantity of bytes", allowed="e.g. 512Mi, 50Gi")
    return int(float(match[1]) * _UNITS.get(match[2], 1))


def cores_of(quantity: str) -> float:
    """A Kubernetes quantity of CPU in cores: 500m is 0.5."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
