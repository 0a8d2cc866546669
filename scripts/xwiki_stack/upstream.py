"""Charts of others: which version we pin, and whether the values that we write mean anything to it.

Helm takes any key: one that is mistyped is ignored, and nothing says so. Each generated value is
therefore looked up in its chart, in values.yaml and in values.schema.json where there is one.
"""

import contextlib
import difflib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable

from xwiki_stack import cluster, intent, proc, repo
from xwiki_stack.cluster.registry import Bed, choose
from xwiki_stack.errors import MachineError

INFRA = repo.ROOT / "flux" / "infra"

EXTRA = {
    "kube-prometheus-stack": {"alertmanager.alertmanagerSpec.configSecret"},
    "loki": {
        "loki.limits_config.retention_period",
        "loki.limits_config.allow_structured_metadata",
    },
}
"""Keys that a chart's templates read though its values.yaml does not say them: of the operator's
Alertmanager, and of Loki's own configuration."""

DOCUMENTED = {
    "ingress-nginx": {
        "controller.config": {
            "allow-cross-namespace-resources",
            "annotations-risk-level",
            "force-ssl-redirect",
            "hide-headers",
            "hsts",
            "hsts-include-subdomains",
            "hsts-max-age",
            "hsts-preload",
            "log-format-escape-json",
            "proxy-body-size",
            "proxy-read-timeout",
            "server-tokens",
            "ssl-protocols",
            "ssl-redirect",
            "strict-validate-path-type",
        }
    },
    "external-dns": {"extraArgs": {"min-ttl", "ovh-endpoint", "ovh-api-rate-limit"}},
    "kube-prometheus-stack": {
        "defaultRules.disabled": {"KubePodCrashLooping", "KubePersistentVolumeErrors"}
    },
    "cert-manager": {"config": {"apiVersion", "kind", "gatewayAPI"}},
    "loki": {
        "loki.compactor": {"retention_enabled", "delete_request_store", "working_directory"},
        "loki.schemaConfig": {"configs"},
    },
    "traefik": {"tlsOptions": {"default"}},
}
"""Maps that a chart passes on unread, and those of their keys that were read in the documentation
of what reads them: a further one is looked up and added here."""

AMOUNTS = {"requests", "limits"}
"""What `resources` of a container may say, in every chart."""

_TYPO = 0.7
"""How alike two keys must be for the one to be a mistyped other."""

_PATIENCE = 60.0
"""Seconds for one chart: it is a small archive."""


@dataclass(frozen=True)
class Pin:
    """A chart as the tree pins it; `url` is that of its repository, or with OCI its own."""

    name: str
    version: str
    url: str


@dataclass(frozen=True)
class Chart:
    """What a chart says of itself. `origin` tells where it was read, `version` its own.

    subcharts: defaults by name, None where they are not known.
    """

    origin: str
    version: str
    values: dict[str, Any]
    schema: dict[str, Any] | None = None
    subcharts: Mapping[str, dict[str, Any] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a look at the values of one release came to.

    origin, version: of the chart that was asked; known: how many keys it knows; free: maps that
    take any key; unproven: what could not be looked up; mistakes: what the chart does not know.
    """

    release: str
    pin: Pin
    origin: str = ""
    version: str = ""
    known: int = 0
    free: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()


def pins(infra: Path = INFRA) -> dict[str, Pin]:
    """The pinned chart of each release of the tree, by release."""
    found = {}
    for path in sorted(infra.glob("*/helmrelease.yaml")):
        release = yaml.safe_load(path.read_text())
        source = yaml.safe_load((path.parent / "source.yaml").read_text())
        url = intent.at(source, "spec", "url")
        if chart := intent.at(release, "spec", "chart", "spec"):
            pin = Pin(chart["chart"], str(chart["version"]), url)
        else:
            tag = str(intent.at(source, "spec", "ref", "tag"))
            pin = Pin(url.rpartition("/")[2], tag, url)
        found[release["metadata"]["name"]] = pin
    return found


def chart(pin: Pin, *, pull: bool = True) -> Chart | None:
    """A chart from the cache, from its registry, or from beside the checkout; None: nowhere.

    pull: whether to ask its registry, where one answers at all.
    """
    kept = repo.cache() / "charts" / f"{pin.name}-{pin.version}" / pin.name
    if not kept.is_dir() and pull and choose() is Bed.REGISTRY:
        _pull(pin, kept.parent)
    if kept.is_dir():
        return _read(kept, f"the cache ({pin.version})", kept / "charts")
    beside = repo.beside() / "upstream"
    if (beside / pin.name / "values.yaml").is_file():
        return _read(beside / pin.name, "beside the checkout", beside)
    return None


def _pull(pin: Pin, folder: Path) -> None:
    """Bring a chart into the cache, whole or not at all; a registry that is slow has none."""
    where = [pin.url] if pin.url.startswith("oci://") else [pin.name, "--repo", pin.url]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as work,
        contextlib.suppress(MachineError),
    ):
        argv: list[str | Path] = [cluster.tools().helm, "pull", *where, "--version", pin.version]
        proc.run([*argv, "--untar", "--untardir", work], timeout=_PATIENCE)
        folder.mkdir(exist_ok=True)
        (Path(work) / pin.name).rename(folder / pin.name)


def _read(folder: Path, origin: str, neighbours: Path) -> Chart:
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    schema = folder / "values.schema.json"
    subcharts = {}
    for item in about.get("dependencies") or []:
        defaults = neighbours / item["name"] / "values.yaml"
        known = yaml.safe_load(defaults.read_text()) if defaults.is_file() else None
        subcharts[item.get("alias") or item["name"]] = known
    return Chart(
        origin,
        str(about["version"]),
        yaml.safe_load((folder / "values.yaml").read_text()) or {},
        json.loads(schema.read_text()) if schema.is_file() else None,
        subcharts,
    )


def look(release: str, values: dict[str, Any], pin: Pin, found: Chart | None) -> Finding:
    """Look every key of a release's values up in its chart."""
    if found is None:
        return Finding(release, pin, unproven=("every value: the chart is not here",))
    defaults = dict(found.values)
    for name, own in found.subcharts.items():
        if own is not None:
            defaults[name] = merged(own, defaults.get(name) or {})
    search = _Search(pin.name, found)
    search.walk(values, defaults, _nodes([found.schema], found.schema or {}), "")
    search.mistakes += _misfits(merged(defaults, values), found.schema)
    return Finding(
        release,
        pin,
        found.origin,
        found.version,
        len(search.known),
        tuple(search.free),
        tuple(search.unproven),
        tuple(search.mistakes),
    )


class _Search:
    """Sorts the keys of values into known, free, unproven and mistaken."""

    def __init__(self, name: str, chart: Chart) -> None:
        self.chart = chart
        self.extra = EXTRA.get(name, set())
        self.documented = DOCUMENTED.get(name, {})
        self.known: list[str] = []
        self.free: list[str] = []
        self.unproven: list[str] = []
        self.mistakes: list[str] = []

    def walk(
        self, given: dict[str, Any], defaults: Any, nodes: list[dict[str, Any]], place: str
    ) -> None:
        """Sort the keys of one map; defaults and nodes are what chart and schema have there."""
        here = defaults if isinstance(defaults, dict) else {}
        known = {*here, *(key for node in nodes for key in node.get("properties", {}))}
        if place.rpartition(".")[2] == "resources":
            known |= AMOUNTS
        elif place in self.documented:
            known |= self.documented[place]
        elif not known:
            self.free.append(place)
            return
        known |= {key.rpartition(".")[2] for key in self.extra if key.rpartition(".")[0] == place}
        for key, value in given.items():
            path = f"{place}.{key}" if place else key
            if key in known:
                inner = [n["properties"][key] for n in nodes if key in n.get("properties", {})]
                self._value(path, value, here.get(key), inner)
                continue
            near = difflib.get_close_matches(key, sorted(known), 1, _TYPO)
            if not near and self.chart.subcharts.get(place, {}) is None:
                self.unproven.append(f"{path}: the chart {place} is not here")
                continue
            meant = f", did you mean {near[0]!r}?" if near else f" (known: {_some(known)})"
            self.mistakes.append(f"{path}: the chart knows no such key{meant}")

    def _value(self, path: str, value: Any, default: Any, nodes: list[Any]) -> None:
        if isinstance(value, dict) and value:
            if isinstance(default, (str, int, float)) and default not in {"", False}:
                self.mistakes.append(f"{path}: a map, where the chart has {default!r}")
            elif path.rpartition(".")[2] in AMOUNTS:
                self.known.append(path)
            else:
                self.walk(value, default, _nodes(nodes, self.chart.schema or {}), path)
        elif isinstance(default, dict) and default and not isinstance(value, dict):
            self.mistakes.append(f"{path}: {value!r}, where the chart has a map")
        else:
            self.known.append(path)


def _some(known: set[str]) -> str:
    return ", ".join(sorted(known)[:8])


def _nodes(nodes: list[Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    """Parts of a schema with all that they refer to or choose from."""
    found: list[dict[str, Any]] = []
    for node in nodes:
        if not isinstance(node, dict):
            continue
        found.append(node)
        inner = [*node.get("allOf", []), *node.get("anyOf", []), *node.get("oneOf", [])]
        reference = str(node.get("$ref", ""))
        if reference.startswith("#/"):
            inner.append(intent.at(root, *reference[2:].split("/")))
        found += _nodes(inner, root)
    return found


def _misfits(values: dict[str, Any], schema: dict[str, Any] | None) -> Iterator[str]:
    """What a chart's own schema says against all its values together."""
    if not schema:
        return
    try:
        for error in validator_for(schema)(schema).iter_errors(values):
            place = ".".join(str(part) for part in error.absolute_path) or "values"
            yield f"{place}: {' '.join(error.message.split())[:200]}"
    except Unresolvable as outside:
        yield f"values.schema.json: refers to what is not here: {outside}"


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values over defaults, as Helm lays them."""
    both = {
        key: merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def findings(*, pull: bool = True) -> list[Finding]:
    """A look at every committed values file of an upstream release, of every cluster."""
    pinned = pins()
    found = []
    for path in sorted((repo.ROOT / "values" / "generated").glob("*/*.yaml")):
        if path.stem in pinned:
            pin = pinned[path.stem]
            values = yaml.safe_load(path.read_text())
            found.append(
                look(f"{path.parent.name}/{path.stem}", values, pin, chart(pin, pull=pull))
            )
    return found


def text(found: list[Finding]) -> str:
    """The findings for people: what was looked up where, what is wrong, what stays unproven."""
    lines = []
    for item in found:
        where = f"{item.known} keys known to the chart {item.origin}" if item.origin else "unproven"
        other = f", which says {item.version}" if item.version not in {"", item.pin.version} else ""
        lines.append(f"{item.release}: {item.pin.name} {item.pin.version}, {where}{other}")
        lines += [f"  WRONG    {words}" for words in item.mistakes]
        lines += [f"  unproven {words}" for words in item.unproven]
        if item.free:
            lines.append(f"  any key  {', '.join(item.free)}")
    return "\n".join(lines)
