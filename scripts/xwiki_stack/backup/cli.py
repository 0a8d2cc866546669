"""`xwiki-stack backup ...`: parses and prints for this package, as `cli` does for all others."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from xwiki_stack.backup import (
    config,
    evidence,
    imports,
    keyring,
    kit,
    manifest,
    report,
    restore,
    retention,
    site,
    verify,
)
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Site
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import DamagedError, IntentError, RefusedError
from xwiki_stack.steps import clock

Verb = Callable[[argparse.Namespace], object]


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the verbs of backups."""
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="backup_verb")

    def verb(name: str, run: Verb, summary: str, more: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary}.\n{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(verb=run)
        added.add_argument(
            "--config",
            type=Path,
            default=Path(os.environ.get(config.VARIABLE) or config.DEFAULT),
            metavar="FILE",
            help=f"what backups need (default: {config.DEFAULT}, or {config.VARIABLE})",
        )
        return added

    verb(
        "run",
        _run,
        "Make a set: the database first, then the files, the manifest last",
        "It looks before it begins (keys, bucket, clock, grants), holds a lock, streams to the\n"
        "store without temporary disk, and compares every attachment with the copied files.\n"
        "Whatever fails, no set appears and older sets stay untouched.\n"
        "Exit codes: 8 no set came to be, 10 the store refuses, 75 another run is at work.",
    )
    verb("list", _list, "All sets, newest first, with what was proven of each", "Reads only.")
    command = verb("show", _show, "One set: content, counts, where it stands in the chain", "")
    _add_set(command)
    command = verb(
        "verify",
        _verify,
        "Prove that a set is intact, or with --opened that it opens and is whole",
        "Intact needs no key: every stored byte against the signed manifest. Opened needs a key:\n"
        "all of it decrypted, rows and files counted and hashed. A signed record goes to the\n"
        "bucket; prune and status believe nothing else. Exit code 9 where a proof fails.",
    )
    _add_set(command)
    command.add_argument("--all", action="store_true", help="every set instead of one")
    command.add_argument("--opened", action="store_true", help="open it, where a key is")
    command.add_argument("--no-record", action="store_true", help="leave no record in the bucket")
    command = verb(
        "restore",
        _restore,
        "Bring a set back into an empty target",
        "Refuses a target that holds anything, another environment, a set that is damaged or\n"
        "newer than the server, a missing key: all before the first write. Then loads, counts\n"
        "rows, writes files and checks each hash. XWiki must be stopped.\n"
        "Exit codes: 6 refused, 9 the set is damaged, 8 it ended half-way.",
    )
    _add_set(command)
    command.add_argument(
        "--only", choices=(restore.DATABASE, restore.FILES), help="one part instead of both"
    )
    command.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="ENV",
        help="environment whose set it is, if not this one's (never into production)",
    )
    command = verb(
        "import",
        _import,
        "Make a set of a wiki from elsewhere: a dump and the data directory that belongs to it",
        "For plain Docker, the community chart, a server of old. The dump is mysqldump's, of\n"
        "MySQL, maybe .gz or .zst; it must have its end, and every attachment its file.\n"
        "Exit codes: 2 it is given wrong, 6 it cannot become a set, 8 it is not whole.",
    )
    command.add_argument(
        "--dump", required=True, metavar="FILE", help="what mysqldump wrote; - is standard input"
    )
    command.add_argument(
        "--data", required=True, type=Path, metavar="DIR", help="XWiki's permanent directory"
    )
    command.add_argument(
        "--snapshot", required=True, metavar="TIME",
        help="when the dump was begun: 2026-11-26T05:30:00Z",
    )  # fmt: skip
    command.add_argument(
        "--schema", default="", metavar="NAME", help="schema of a dump without --databases"
    )
    command.add_argument(
        "--accept-misses", action="store_true",
        help="make the set though attachments have no file; it says so for ever",
    )  # fmt: skip
    command = verb(
        "kit",
        _kit,
        "Print the recovery sheet, after trying whether the key here opens the newest set",
        "One page: where Git, bucket and keys are, fingerprints, the steps. It holds no secret.\n"
        "Exit code 9 where the key does not open the set; the sheet then says so.",
    )
    command.add_argument("--html", type=Path, metavar="FILE", help="as a page to be printed too")
    command.add_argument(
        "--quick", action="store_true", help="open only the index and the beginning of the dump"
    )
    command.add_argument(
        "--qr", metavar="FILE",
        help="draw the private key: into a new file (.svg, .png, .txt), - is this terminal",
    )  # fmt: skip
    command = verb(
        "prune",
        _prune,
        "Say which sets would go by the keep rules; with --apply let them go",
        "Does nothing while the newest set is not proven intact or too few are proven to open.\n"
        "At most a fifth of all sets goes at a time; objects that no set names go after 48 h.",
    )
    command.add_argument("--apply", action="store_true", help="act instead of only saying so")
    verb(
        "status",
        _status,
        "Newest set and its age against the promise, newest proofs, what is wrong",
        "Exit code 5 when something is wrong, each with what to do.",
    )


def _run(arguments: argparse.Namespace) -> None:
    outcome = site.run(_config(arguments), print)
    made = outcome.found.manifest
    print(
        f"set {made.id}: {site.size(made.bytes)}, {site.size(outcome.sent)} of it sent now,"
        f" in {clock(outcome.seconds)}"
    )


def _list(arguments: argparse.Namespace) -> None:
    print(report.listed(_config(arguments)))


def _show(arguments: argparse.Namespace) -> None:
    print(report.shown(_config(arguments), arguments.set))


def _status(arguments: argparse.Namespace) -> int:
    state = report.status(_config(arguments))
    print(state.text)
    return 0 if state.healthy else 5


def _verify(arguments: argparse.Namespace) -> None:
    known = _config(arguments)
    store = Store(known)
    identities = keyring.openers(known) if arguments.opened else []
    signing = None if arguments.no_record else keyring.signing(known)
    sets = manifest.listing(store, known.need_trusted(), known.environment, Site)
    failed = list(sets.unreadable.values()) if arguments.all else []
    for proof in verify.proofs(store, sets.sets, _chosen(sets, arguments), identities):
        speed = site.rate(proof.bytes, proof.seconds)
        words = f"NO: {proof.error}" if proof.error else f"{site.size(proof.bytes)}, {speed}"
        print(f"{proof.found.manifest.id}  {proof.kind}  {words}")
        failed += [proof.error] if proof.error else []
        if signing:
            evidence.write(store, verify.record(proof, site.stamp(store.now())), signing)
    if failed:
        raise failed[0] if len(failed) == 1 else DamagedError(
            f"{len(failed)} proofs failed, the first: {failed[0]}"
        )  # fmt: skip


def _chosen(sets: manifest.Listing[Site], arguments: argparse.Namespace) -> list[Found[Site]]:
    if arguments.all:
        return list(reversed(sets.sets))
    if arguments.set != "newest":
        return [sets.find(arguments.set)]
    if sets.unreadable and (not sets.newest or max(sets.unreadable) > sets.newest.manifest.id):
        raise sets.unreadable[max(sets.unreadable)]
    if not sets.newest:
        raise IntentError("there is no set", next="`xwiki-stack backup run`")
    return [sets.newest]


def _restore(arguments: argparse.Namespace) -> None:
    name = "" if arguments.set == "newest" else arguments.set
    wish = restore.Wish(name, arguments.only or restore.ALL, arguments.source)
    outcome = restore.restore(_config(arguments), wish, print)
    print(
        f"restored {outcome.found.manifest.id}: {outcome.tables} tables, {outcome.files} files,"
        f" in {clock(outcome.seconds)}; start XWiki now"
    )


def _import(arguments: argparse.Namespace) -> None:
    known, moment = _config(arguments), imports.moment(arguments.snapshot)
    with _opened(arguments.dump) as dump:
        source = imports.Source(
            dump=dump,
            name="standard input" if arguments.dump == "-" else arguments.dump,
            data=arguments.data,
            snapshot=moment,
            schema=arguments.schema,
            accept_misses=arguments.accept_misses,
        )
        outcome = imports.imported(known, source, print)
    made = outcome.found.manifest
    print(f"set {made.id}: {site.size(made.bytes)}, in {clock(outcome.seconds)}")
    print(f"next: `xwiki-stack backup verify {made.id} --opened`, then `restore {made.id}`")


def _opened(name: str) -> IO[bytes]:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise IntentError(f"{name} cannot be read: {error.strerror}", where="--dump") from error


def _kit(arguments: argparse.Namespace) -> None:
    known = _config(arguments)
    if arguments.qr == "-" and not sys.stdout.isatty():
        raise RefusedError("a private key is drawn on a terminal only, never into a log or a pipe",
                           where="--qr -", next="name a file: --qr key.svg")  # fmt: skip
    drawing = kit.drawn(known, _kind(arguments.qr)) if arguments.qr else b""
    sheet = kit.kit(known, quick=arguments.quick)
    if arguments.html:
        kit.write(arguments.html, sheet.html.encode())
    if arguments.qr and arguments.qr != "-":
        kit.write(Path(arguments.qr), drawing, mode=0o600)
    print(sheet.text)
    if arguments.qr == "-":
        print(drawing.decode())
    if sheet.problem:
        raise sheet.problem


def _kind(name: str) -> str:
    return ".txt" if name == "-" else Path(name).suffix


def _prune(arguments: argparse.Namespace) -> None:
    outcome = retention.prune(_config(arguments), print, apply=arguments.apply)
    gone = len(outcome.plan.drop)
    if outcome.applied:
        print(f"{gone} sets went, {len(outcome.plan.keep)} stay")
    else:
        print(f"{gone} sets would go, {len(outcome.plan.keep)} stay; --apply does it")


def _config(arguments: argparse.Namespace) -> Config:
    return config.load(arguments.config)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "set", nargs="?", default="newest", help="id of a set or its beginning (default: newest)"
    )
