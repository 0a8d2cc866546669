"""Who can open what: the folders of sealed Secrets, and .sops.yaml, both out of the intent.

sops reads .sops.yaml and nothing else, so the file is generated: it cannot say something else than
`secrets.recipients` of the cluster without `make check` showing the difference.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import gitops, intent, repo, templates
from xwiki_stack.errors import IntentError
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.secrets import keys

FILE = ".sops.yaml"
ENCRYPTED = "^(data|stringData)$"
"""What sops seals of a Secret: its values. Kind, name and keys stay readable."""

ENDING = ".sops.yaml"
"""How the name of a sealed file ends."""


@dataclass(frozen=True)
class Place:
    """A folder of sealed Secrets, relative to the checkout: a platform's, or one wiki's."""

    folder: str
    cluster: Cluster
    environment: Environment | None = None

    @property
    def why(self) -> str:
        """What its Secrets are for."""
        if self.environment:
            return f"The wiki of {self.environment.name}, on cluster {self.cluster.name}."
        return f"The platform of cluster {self.cluster.name}."

    @property
    def recipients(self) -> tuple[str, ...]:
        """The age keys that open them."""
        return self.cluster.recipients


def places(values: Path = intent.VALUES) -> list[Place]:
    """Every folder of sealed Secrets that Flux reads: of undecided environments none.

    Raises IntentError for a recipient that is no age public key.
    """
    found = []
    for cluster, environments in _reconciled(values):
        found.append(Place(f"flux/clusters/{cluster.name}/secrets", cluster))
        found += [
            Place(f"flux/apps/{gitops.SOURCE}/{env.name}", cluster, env)
            for env in environments
            if not env.undecided
        ]
    return found


def text(values: Path = intent.VALUES) -> str:
    """.sops.yaml as the intent gives it."""
    clusters = _reconciled(values)
    return templates.text(
        "sops.yaml.j2",
        places=[place for place in places(values) if place.recipients],
        without=[cluster.name for cluster, _carried in clusters if not cluster.recipients],
        undecided=[env.name for _cluster, carried in clusters for env in carried if env.undecided],
        encrypted=ENCRYPTED,
    )


def _reconciled(values: Path) -> list[tuple[Cluster, list[Environment]]]:
    """Clusters that Flux reconciles, with what they carry; that of `make up` is nobody's."""
    found = []
    for path in sorted((values / "clusters").glob("*.yaml")):
        carried = intent.environments_of(path.stem, values)
        if any(environment.purpose != "local" for environment in carried):
            cluster = intent.load_cluster(path.stem, values)
            keys.check(cluster.recipients, f"{repo.relative(path)}: secrets.recipients")
            found.append((cluster, carried))
    return found


def with_recipients(path: Path, recipients: tuple[str, ...]) -> str:
    """The text of a cluster's file with these recipients, all else as a person wrote it.

    Raises IntentError where the file is written so that it cannot be done safely.
    """
    before = path.read_text(encoding="utf-8")
    wanted = yaml.safe_load(before)
    said = wanted.get("secrets", {"backend": "sops"})
    wanted["secrets"] = {**said, "recipients": [*recipients]}
    lines = before.splitlines()
    top = yaml.compose(before)
    secrets = _value(top, "secrets")
    listed = _value(secrets, "recipients")
    if secrets is None:
        lines += ["secrets:", "  backend: sops", *_listed(recipients, "  ")]
    elif listed is None:
        last = secrets.value[-1][1].end_mark.line if secrets.value else 0
        indent = " " * secrets.start_mark.column
        lines[last + 1 : last + 1] = _listed(recipients, indent)
    else:
        first, last = listed.value[0].start_mark.line, listed.value[-1].end_mark.line
        kept = {
            item.value: lines[item.start_mark.line]
            for item in listed.value
            if item.value in recipients
        }
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        lines[first : last + 1] = [kept.get(one, f"{indent}- {one}") for one in recipients]
    after = "\n".join(lines) + "\n"
    if _read(after) != wanted:
        raise IntentError(
            "the recipients cannot be written without touching what stands around them",
            where=f"{repo.relative(path)}: secrets.recipients",
            next=f"write a list yourself, one per line: {', '.join(recipients)}",
        )
    return after


def _value(node: Any, key: str) -> Any:
    """The node below a key of a mapping written in block style, or None."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _listed(recipients: tuple[str, ...], indent: str) -> list[str]:
    return [f"{indent}recipients:", *(f"{indent}  - {one}" for one in recipients)]


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
