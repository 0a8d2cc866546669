"""Whether the Secrets of a checkout are sealed, to whom they should be, and all there."""

from dataclasses import dataclass, field
from pathlib import Path

from xwiki_stack.errors import DamagedError, MachineError
from xwiki_stack.gitops import Secret
from xwiki_stack.secrets import inventory, keys, rules, sops, tree
from xwiki_stack.secrets.rules import Place
from xwiki_stack.secrets.tree import File, Sealed


@dataclass
class Report:
    """What was found: mistakes (file, what, what to do), remarks, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: int = 0
    sealed: int = 0
    opened: int = 0


def check(root: Path, env: str = "") -> Report:
    """Look at every file of a checkout, and at what each place must have.

    env: an environment whose Secrets must be there, whoever holds a key or not. Without it a place
    of staging waits until there is a key; production that is decided does not.
    Raises IntentError for an intent, StackError for values that cannot be read.
    """
    report = Report()
    every = tree.files(root)
    report.files = len(every)
    for file in every:
        if tree.private(file) or file.name.endswith(keys.ENDING):
            report.problems.append(
                f"{file.name}: holds a private age key; next: take it out of the repository and its"
                " history, then `xwiki-stack secrets rotate --new-key`"
            )
    manifests = tree.manifests(every)
    for file in manifests:
        report.problems += [
            f"{file.name}: {problem}; next: `xwiki-stack secrets init` seals what is needed, see"
            " docs/how-to/rotate-a-secret.md"
            for problem in tree.plain(file)
        ]
    _rules(root, report)
    places = rules.places(root / "values")
    found = [sealed for file in manifests if (sealed := tree.sealed(file))]
    report.sealed = len(found)
    for place in places:
        own = [sealed for sealed in found if _folder(sealed.file) == place.folder]
        _place(root, place, own, report, asked=_asked(place, env))
    _astray(places, manifests, report)
    return report


def _rules(root: Path, report: Report) -> None:
    path = root / rules.FILE
    if not path.is_file() or path.read_text() != rules.text(root / "values"):
        report.problems.append(
            f"{rules.FILE}: says something else than the intent; next: `make generate`"
        )


def _asked(place: Place, env: str) -> bool:
    """Whether what a place must have is asked for before anybody holds a key."""
    if place.environment is None:
        return False
    return place.environment.name == env or (not env and place.environment.purpose == "prod")


def _place(root: Path, place: Place, found: list[Sealed], report: Report, *, asked: bool) -> None:
    begun = bool(place.recipients) or asked
    wanted = inventory.wanted(root, place) if begun else []
    command = f"`{_init(place)}`"
    if not begun:
        report.remarks.append(
            f"{place.folder}: waits for a key, {command} makes one and what can be made"
        )
    for secret, absent in _missing(wanted, found):
        file = f"{place.folder}/{secret.name}{rules.ENDING}"
        what = f"lacks {', '.join(absent)}"
        if absent == secret.keys:
            what = f"does not exist, with {', '.join(absent) or 'keys that no chart names'}"
        report.problems.append(
            f"{file}: Secret {secret.namespace}/{secret.name} {what}; next: {command}"
        )
    needed = {_name(secret) for secret in wanted}
    names = [sealed.name for sealed in found]
    for sealed in found:
        if names.count(sealed.name) > 1:
            report.problems.append(
                f"{sealed.file.name}: the same Secret is in another file, too, and kustomize takes"
                " none of both; next: remove one"
            )
        if sealed.name not in needed:
            report.remarks.append(f"{sealed.file.name}: nothing reads it; is it needed any more?")
        report.problems += _stranger(place, sealed)
        _open(root, place, sealed, report)


def _missing(wanted: list[Secret], found: list[Sealed]) -> list[tuple[Secret, tuple[str, ...]]]:
    """The Secrets that lack keys, with these; all keys of one that is not there."""
    has = {sealed.name: sealed.keys for sealed in found}
    absent = [
        (item, tuple(key for key in item.keys if key not in has.get(_name(item), set())))
        for item in wanted
    ]
    return [(item, lost) for item, lost in absent if lost or _name(item) not in has]


def _stranger(place: Place, sealed: Sealed) -> list[str]:
    """Who can open a Secret and should not, or the other way round."""
    rule, own = set(place.recipients), sealed.recipients
    said = [f"is sealed to {one}, whom {rules.FILE} does not name" for one in sorted(own - rule)]
    said += [f"is not sealed to {one}, whom {rules.FILE} names" for one in sorted(rule - own)]
    said += [f"is sealed to keys of {store}, which no rule has" for store in sealed.foreign]
    command = f"`xwiki-stack secrets rotate --cluster {place.cluster.name}`"
    return [f"{sealed.file.name}: {words}; next: {command}" for words in said]


def _open(root: Path, place: Place, sealed: Sealed, report: Report) -> None:
    """Prove by the key, where it is at hand, that nothing was changed after it was sealed."""
    key = keys.path_of(place.cluster.name)
    if not set(keys.at_hand(key)) & sealed.recipients:
        return
    try:
        sops.unseal(root, sealed.file.path, key)
    except (DamagedError, MachineError) as error:
        report.problems.append(str(error))
    else:
        report.opened += 1


def _astray(places: list[Place], manifests: list[File], report: Report) -> None:
    """Sealed files that nothing is for: in no folder of Secrets, misnamed, or with more in them."""
    folders = {place.folder for place in places if place.recipients}
    for file in manifests:
        marked = file.name.endswith(rules.ENDING) and file.name != rules.FILE
        sealed = tree.sealed(file)
        if not marked and not sealed:
            continue
        what = ""
        if not sealed:
            what = "holds something else than one sealed Secret"
        elif not marked:
            what = f"is sealed, but its name does not end in {rules.ENDING}"
        elif _folder(file) not in folders:
            what = f"is in no folder that a rule of {rules.FILE} is for"
        if what:
            allowed = ", ".join(sorted(folders)) or "none before somebody holds a key"
            report.problems.append(f"{file.name}: {what}; allowed: {allowed}")


def _folder(file: File) -> str:
    return file.name.rpartition("/")[0]


def _name(secret: Secret) -> tuple[str, str]:
    return secret.namespace, secret.name


def _init(place: Place) -> str:
    return "xwiki-stack secrets init" + (
        f" --env {place.environment.name}" if place.environment else ""
    )
