"""`xwiki-stack secrets ...`: parses, asks and prints for this package, as `cli` for all others."""

import argparse
import getpass
import sys
from pathlib import Path

from xwiki_stack import cluster, generate, gitops, repo, steps
from xwiki_stack.errors import IntentError, RefusedError, StackError
from xwiki_stack.secrets import check, keys, provision, rotation, rules, sops, tree
from xwiki_stack.verbs import adder


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the verbs of sealed Secrets."""
    verb = adder(parser.add_subparsers(required=True, metavar="VERB", dest="secrets_verb"))
    command = verb(
        "init",
        _init,
        "Make a key, and each Secret that is needed, sealed",
        "The key goes outside the repository and is never shown or overwritten; its public half\n"
        "goes into the cluster's file and .sops.yaml. Passwords are made at random. What only you\n"
        "know (keys of S3, tokens of providers) is asked for, or read from --values; a Secret of\n"
        "which something is unknown is left out and named. Run again, it makes what is missing.",
    )
    command.add_argument(
        "--env", default="", help="with its platform only (default: all that Flux reconciles)"
    )
    command.add_argument(
        "--values",
        metavar="FILE",
        help="YAML, Secret: {key: value}; - reads standard input. A key's value may be many lines",
    )
    command = verb(
        "edit",
        _edit,
        "Open one sealed Secret in your editor, and seal it again",
        "The plain text lies in memory (/dev/shm) while the editor is open, where there is such a\n"
        "folder; it is removed however the editor ends. What restarts: docs/how-to/.",
    )
    command.add_argument("name", metavar="NAME", help="of the Secret, e.g. xwiki-stack-mysql")
    command.add_argument("--env", default="", help="whose, where several wikis have one")
    command = verb(
        "rotate",
        _rotate,
        "New data keys for all Secrets of a cluster, or other recipients",
        "All files or none. With --new-key a key is made beside the old one, in the same file,\n"
        "and becomes a recipient: give it to Flux, push, then --remove the old one. Who could\n"
        "open a Secret once has read it: change its values too.",
    )
    command.add_argument("--cluster", default="main", help="a file of values/clusters/")
    for option, words in (("--add", "lets open"), ("--remove", "no longer lets open")):
        command.add_argument(
            option, action="append", default=[], metavar="age1...", help=f"a public key: {words}"
        )
    command.add_argument("--new-key", action="store_true", help="make a key and add it")
    command = verb(
        "check",
        _check,
        "Refuse a plain Secret, one sealed to others, one that is missing",
        "Looks at every file that Git has or would take. Where the key is at hand, each sealed\n"
        "file is opened, to prove that nothing was changed after it was sealed: Flux does not.\n"
        "Exit code 1, after one line for each mistake.",
    )
    command.add_argument("--env", default="", help="ask for its Secrets before there is a key, too")


def _init(arguments: argparse.Namespace) -> None:
    provision.chosen(repo.ROOT, arguments.env)  # a mistake is said before sops is built
    given = _given(arguments.values, arguments.env)
    _install()
    outcome = provision.init(repo.ROOT, arguments.env, given, _asker())
    generate.generate()  # the tree lists what is sealed
    for path in outcome.keys:
        print(f"key: {path} (keep a copy offline: without it no Secret in Git opens any more)")
    for path in outcome.written:
        print(f"sealed: {repo.relative(path)}")
    for path in outcome.completed:
        print(f"completed: {repo.relative(path)}")
    if not (outcome.keys or outcome.written or outcome.completed):
        print("nothing to do: what can be made is there")
    for name in outcome.clusters:
        print(f"For Flux, once on cluster {name}:\n  {keys.for_flux(keys.path_of(name))}")
    if outcome.missing:
        print("Missing, since only you know the values (run again, or --values FILE):")
        for words in outcome.missing:
            print(f"  {words}")


def _edit(arguments: argparse.Namespace) -> None:
    place, sealed = _named(arguments.name, arguments.env)
    key = keys.path_of(place.cluster.name)
    if not set(keys.at_hand(key)) & sealed.recipients:
        raise RefusedError(
            "no key here opens it", where=sealed.file.name, next=f"put the key to {key}"
        )
    _install()
    changed = sops.edit(repo.ROOT, sealed.file.path, key)
    if not changed:
        print(f"unchanged: {sealed.file.name}")
        return
    if problems := tree.plain(tree.File(repo.ROOT, sealed.file.name)):
        raise IntentError(problems[0], where=sealed.file.name, next="edit it again")
    print(f"sealed: {sealed.file.name}")
    print("Commit it; what reads it may have to restart: docs/how-to/rotate-a-secret.md")


def _rotate(arguments: argparse.Namespace) -> None:
    _install()
    outcome = rotation.rotate(
        repo.ROOT,
        arguments.cluster,
        arguments.add,
        arguments.remove,
        new_key=arguments.new_key,
    )
    generate.generate()
    for one in outcome.added:
        print(f"may open now: {one}")
    for one in outcome.removed:
        print(f"opens nothing new: {one} (what it has opened is known: change the values, too)")
    for path in outcome.rotated:
        print(f"rotated: {repo.relative(path)}")
    if not (outcome.added or outcome.removed or outcome.rotated):
        print("nothing to do: it is so already")
    if outcome.made or outcome.removed:
        path = keys.path_of(arguments.cluster)
        print(f"For Flux, before you push:\n  {keys.for_flux(path)}")


def _check(arguments: argparse.Namespace) -> None:
    provision.chosen(repo.ROOT, arguments.env)
    if arguments.env or any(place.recipients for place in rules.places()):
        _install()
    report = check.check(repo.ROOT, arguments.env)
    print(
        f"{report.files} files, {report.sealed} sealed Secrets,"
        f" {report.opened} of them opened and proven unchanged"
    )
    for words in report.remarks:
        print(words)
    for words in report.problems:
        print(words)
    if report.problems:
        raise StackError(f"{len(report.problems)} mistake(s) with Secrets, each in a line above")


def _named(name: str, env: str) -> tuple[rules.Place, tree.Sealed]:
    """The one sealed Secret of a name. Raises IntentError with those that there are."""
    found, every = [], []
    for place in rules.places():
        owner = place.environment.name if place.environment else ""
        for file in gitops.sealed(repo.ROOT / place.folder):
            sealed = tree.sealed(tree.File(repo.ROOT, f"{place.folder}/{file}"))
            if sealed:
                every.append(f"{sealed.name[1]} ({sealed.name[0]})")
                if sealed.name[1] == name and (not env or owner in ("", env)):
                    found.append((place, sealed))
    if len(found) != 1:
        raise IntentError(
            f"{len(found) or 'no'} sealed Secrets are called {name!r}",
            allowed=", ".join(every) or "none is sealed yet",
            next="say --env" if found else "`xwiki-stack secrets init` makes what is needed",
        )
    return found[0]


def _given(file: str | None, env: str) -> dict[str, dict[str, str]]:
    if not file:
        return {}
    wikis = [place for place in rules.places() if place.environment]
    if not env and len(wikis) > 1:
        raise IntentError("the values of which wiki?", where="--values", next="say --env")
    if file == "-":
        return provision.read_given(sys.stdin.read(), "standard input")
    try:
        return provision.read_given(Path(file).read_text(), file)
    except (OSError, UnicodeDecodeError) as error:
        raise IntentError(f"cannot be read: {error}", where="--values") from error


def _asker() -> provision.Ask:
    """Asks on a terminal, without an echo; where nobody can answer, nothing is known."""

    def ask(question: str) -> str:
        if not sys.stdin.isatty():
            return ""
        try:
            said = getpass.getpass(f"{question}\n  the value, @FILE, or nothing to leave it: ")
        except EOFError:
            return ""
        if not said.startswith("@"):
            return said
        try:
            return Path(said[1:]).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise IntentError(f"cannot be read: {error}", where=said[1:]) from error

    return ask


def _install() -> None:
    """sops, and helm for what the charts read, unless both are there."""
    tools = cluster.tools()
    if not (tools.sops.exists() and tools.helm.exists()):
        steps.execute(cluster.tool_steps(also=("sops",)), print)
