"""A key and the sealed Secrets of a place: what is missing is made, what is there stays.

Run again it goes on where it is. A Secret of which a value is unknown is not written at all: half
a Secret starts pods that fail later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from xwiki_stack import credentials, gitops, intent
from xwiki_stack.errors import IntentError, RefusedError, UndecidedError
from xwiki_stack.gitops import Secret
from xwiki_stack.intent import Cluster
from xwiki_stack.secrets import inventory, keys, rules, sops, tree
from xwiki_stack.secrets.rules import Place
from xwiki_stack.secrets.tree import Sealed

Ask = Callable[[str], str]
"""Asks a person for a value, without showing it; "" for one that is not known yet."""

Given = Mapping[str, Mapping[str, str]]
"""Values that a person has ready: name of the Secret to key to value."""


Source = Callable[[Secret, str], str]
"""Gives the value of a key, from wherever it can be had; "" where it cannot."""


@dataclass
class Outcome:
    """What `init` did: keys and files made, files that got more values, what is still missing."""

    keys: list[Path] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    completed: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)


def init(root: Path, env: str, given: Given, ask: Ask) -> Outcome:
    """Make keys, rules and sealed Secrets of an environment and its platform; "" for all of them.

    given: values that are known; ask: for each that neither is given nor can be invented.
    Raises IntentError, UndecidedError, RefusedError before anything is written.
    """

    def source(secret: Secret, key: str) -> str:
        known = given.get(secret.name, {}).get(key) or inventory.invented(secret, key)
        return known or ask(f"{key} of Secret {secret.namespace}/{secret.name} ({secret.why})")

    outcome = Outcome()
    begun = chosen(root, env)
    wanted = {place.folder: inventory.wanted(root, place) for place in begun}
    _refuse_unknown([item for needed in wanted.values() for item in needed], given)
    for cluster in {place.cluster.name: place.cluster for place in begun}.values():
        outcome.clusters.append(cluster.name)
        if not cluster.recipients:
            outcome.keys += _begin(root, cluster)
    tree.write(root / rules.FILE, rules.text(root / "values"))
    for place in chosen(root, env):  # anew: they have recipients now
        for secret in wanted[place.folder]:
            _provide(root, place, secret, source, outcome)
    return outcome


def read_given(text: str, where: str) -> dict[str, dict[str, str]]:
    """Values out of YAML: Secret to key to value. Raises IntentError, which tells no value."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise IntentError("not YAML", where=f"{where}{line}") from None  # its words show the line
    if not isinstance(document, dict):
        raise IntentError("no names of Secrets", where=where, allowed="Secret: {key: value}")
    for name, values in document.items():
        if not isinstance(values, dict):
            raise IntentError("no keys", where=f"{where}: {name}", allowed="key: value")
        for key, value in values.items():
            if not isinstance(value, str) or not value:
                raise IntentError(
                    "is no text", where=f"{where}: {name}.{key}", allowed="a value in quotes"
                )
    return document


def chosen(root: Path, env: str) -> list[Place]:
    """The places of an environment and of its platform; "" for all of them.

    Raises IntentError for one that Flux does not reconcile, UndecidedError.
    """
    places = rules.places(root / "values")
    if not env:
        return places
    environment = intent.load_environment(env, root / "values")
    if environment.purpose == "local":
        raise IntentError(
            f"the Secrets of {env} are made by `make up`, on its own cluster",
            where="--env",
            allowed="an environment that Flux reconciles",
        )
    if environment.undecided:
        raise UndecidedError(
            f"{env} has open blocking decisions: {', '.join(environment.undecided)}",
            next=f"`xwiki-stack decisions --env {env}` tells who decides",
        )
    return [
        place
        for place in places
        if place.cluster.name == environment.cluster
        and (place.environment is None or place.environment.name == env)
    ]


def _refuse_unknown(wanted: list[Secret], given: Given) -> None:
    """A value with a name that nothing reads would be lost without a word."""
    known = {item.name: item.keys for item in wanted}
    for name, values in given.items():
        if name not in known:
            raise IntentError(
                f"nothing here needs a Secret {name!r}", allowed=", ".join(sorted(known)) or "none"
            )
        for key in values:
            if key not in known[name]:
                raise IntentError(
                    f"nothing reads {key!r} of Secret {name}",
                    allowed=", ".join(known[name]) or "none",
                )


def _begin(root: Path, cluster: Cluster) -> list[Path]:
    """The first key of a cluster, and its public half in the intent; gives the key if it is new."""
    facts = root / "values" / "clusters" / f"{cluster.name}.yaml"
    path = keys.path_of(cluster.name)
    made = keys.make(path)
    tree.write(facts, rules.with_recipients(facts, keys.read(path)))
    return [path] if made else []


def _provide(root: Path, place: Place, secret: Secret, source: Source, outcome: Outcome) -> None:
    """One Secret: left alone, completed, or made whole."""
    there = _present(root, place, secret)
    has = there.keys if there else set()
    absent = [key for key in secret.keys if key not in has]
    if there and not absent:
        return
    values = {key: source(secret, key) for key in absent}
    unknown = [key for key, value in values.items() if not value]
    if not secret.keys:  # mounted whole: its reader alone knows what it looks for
        unknown = ["all of it, since no chart names a key; seal a file of your own with sops"]
    if unknown:
        outcome.missing.append(f"{secret.namespace}/{secret.name}: {', '.join(unknown)}")
        return
    if there:
        for key, value in values.items():
            _complete(root, place, there, key, value)
        outcome.completed.append(there.file.path)
        return
    path = root / place.folder / f"{secret.name}{rules.ENDING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    tree.write(path, sops.seal(root, path, inventory.manifest(secret, values)))
    outcome.written.append(path)


def _present(root: Path, place: Place, secret: Secret) -> Sealed | None:
    """The sealed file of a Secret, whatever its name. Raises RefusedError for one in the way."""
    for name in gitops.sealed(root / place.folder):
        found = tree.sealed(tree.File(root, f"{place.folder}/{name}"))
        if found and found.name == (secret.namespace, secret.name):
            return found
        if name == f"{secret.name}{rules.ENDING}":
            raise RefusedError(
                f"holds something else than Secret {secret.namespace}/{secret.name}",
                where=f"{place.folder}/{name}",
                next="`xwiki-stack secrets check` says what; move it away",
            )
    return None


def _complete(root: Path, place: Place, there: Sealed, key: str, value: str) -> None:
    private = keys.path_of(place.cluster.name)
    if not private.exists():
        raise RefusedError(
            f"lacks {key}, and only a key that opens it can add one",
            where=there.file.name,
            next=f"put the key of {place.cluster.name} to {private}",
        )
    block = "stringData" if "stringData" in there.item else "data"
    text = value if block == "stringData" else credentials.encode(value)
    path = there.file.path
    tree.write(path, sops.with_value(root, path, private, (block, key), text))
