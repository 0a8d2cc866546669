"""Other recipients, and new data keys, for every sealed file of a cluster.

All new files are made before the first old one is replaced, so that a failure changes nothing. The
intent is written first: run again after an interrupt, `rotate` finishes what it began.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xwiki_stack import gitops, intent, repo
from xwiki_stack.errors import IntentError, MachineError, RefusedError
from xwiki_stack.secrets import keys, rules, sops, tree
from xwiki_stack.secrets.tree import File, Sealed


@dataclass
class Outcome:
    """What `rotate` did: recipients that came and went, the new key's public half, files."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    made: str = ""
    rotated: list[Path] = field(default_factory=list)


def rotate(
    root: Path,
    cluster: str,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    *,
    new_key: bool = False,
) -> Outcome:
    """Change who opens a cluster's Secrets, and give each file that changes a new data key.

    With nothing to change it gives all files new data keys. Asked for what is so already, it does
    nothing.
    Raises IntentError, RefusedError, MachineError, DamagedError; then nothing has changed, but for
    a new key that stays in its file.
    """
    values = root / "values"
    facts = intent.load_cluster(cluster, values)
    path = keys.path_of(cluster)
    keys.check(add, "--add")
    outcome = Outcome()
    before = facts.recipients
    if not before:
        raise IntentError(
            f"cluster {cluster} has no key yet",
            where=f"values/clusters/{cluster}.yaml: secrets.recipients",
            next="`xwiki-stack secrets init` makes one",
        )
    _refuse(before, add, remove, path, new_key=new_key)
    found = _sealed(root, cluster)
    if new_key:
        for sealed in found:  # a key that cannot be used should not be made
            sops.unseal(root, sealed.file.path, path)
        outcome.made = keys.add(path)
        add = [*add, outcome.made]
    after = tuple(dict.fromkeys([*before, *add]))
    after = tuple(one for one in after if one not in remove)
    outcome.added = [one for one in after if one not in before]
    outcome.removed = [one for one in before if one not in after]
    asked = bool(add or remove)
    fresh = _made_anew(root, path, found, set(after), everything=not asked)
    if after != before:
        file = values / "clusters" / f"{cluster}.yaml"
        tree.write(file, rules.with_recipients(file, after))
        tree.write(root / rules.FILE, rules.text(values))
    for target, text in fresh.items():
        tree.write(target, text)
    outcome.rotated = list(fresh)
    return outcome


def _refuse(
    before: Sequence[str], add: Sequence[str], remove: Sequence[str], path: Path, *, new_key: bool
) -> None:
    """What would lock people out, or means nothing."""
    own = keys.at_hand(path)
    if not own:
        raise MachineError(
            "the key that opens the Secrets is not here", where=str(path),
            next=f"put it there, or point {repo.KEYS_VARIABLE} to its folder",
        )  # fmt: skip
    if both := set(add) & set(remove):
        raise IntentError(f"{both.pop()} is to come and to go", where="--add, --remove")
    for one in remove:
        if one not in before and not one.startswith("age1"):
            raise IntentError(f"{one!r} is no age public key", where="--remove", allowed="age1...")
    left = ({*before, *add} | ({"new"} if new_key else set())) - set(remove)
    if not left:
        raise RefusedError("nobody could open the Secrets any more", where="--remove")
    if not new_key and not set(own) & left:
        raise RefusedError(
            "no key that is here could open the Secrets any more",
            where="--remove",
            next="`--new-key` first, or keep one of yours",
        )


def _sealed(root: Path, cluster: str) -> list[Sealed]:
    """The sealed files of a cluster's places. Raises IntentError for one that cannot be read."""
    found = []
    for place in rules.places(root / "values"):
        if place.cluster.name != cluster:
            continue
        for name in gitops.sealed(root / place.folder):
            file = File(root, f"{place.folder}/{name}")
            sealed = tree.sealed(file)
            if not sealed or tree.plain(file):
                raise IntentError(
                    "is not sealed as it should be",
                    where=file.name,
                    next="`xwiki-stack secrets check` says what is wrong",
                )
            found.append(sealed)
    return found


def _made_anew(
    root: Path, key: Path, found: list[Sealed], wanted: set[str], *, everything: bool
) -> dict[Path, str]:
    """The new texts of the files whose recipients differ, or of all."""
    fresh = {}
    for sealed in found:
        has = sealed.recipients
        if everything or has != wanted:
            path = sealed.file.path
            fresh[path] = sops.rotated(root, path, key, wanted - has, has - wanted)
    return fresh
