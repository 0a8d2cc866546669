"""`xwiki-stack backup ...`: parses and prints for this package, as `cli` does for all others."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

from xwiki_stack.backup import (
    canary,
    config,
    deadline,
    drill,
    evidence,
    imports,
    keyring,
    kit,
    manifest,
    metrics,
    page,
    producer,
    report,
    restore,
    retention,
    site,
    verify,
    xar,
    xar_restore,
)
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Listing, Manifest
from xwiki_stack.backup.producer import Outcome
from xwiki_stack.backup.progress import Progress
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import rate, size, stamp
from xwiki_stack.errors import DamagedError, IntentError, RefusedError, StackError
from xwiki_stack.steps import clock
from xwiki_stack.verbs import Verb, adder

KINDS = tuple(manifest.KINDS)

RUNS: dict[str, Callable[[Config, producer.Emit], Outcome[Any]]] = {
    manifest.SITE: site.run,
    manifest.XAR: xar.run,
}


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the verbs of backups."""
    plain = adder(parser.add_subparsers(required=True, metavar="VERB", dest="backup_verb"))

    def verb(name: str, run: Verb, summary: str, more: str) -> argparse.ArgumentParser:
        added = plain(name, run, summary, more)
        added.add_argument(
            "--config",
            type=Path,
            default=Path(os.environ.get(config.VARIABLE) or config.DEFAULT),
            metavar="FILE",
            help=f"what backups need (default: {config.DEFAULT}, or {config.VARIABLE})",
        )
        return added

    command = verb(
        "run",
        _run,
        "Make a set: of database and files, or XWiki's own export of every wiki",
        "It looks before it begins (keys, bucket, clock, grants), holds a lock, streams to the\n"
        "store without temporary disk. site: the database first, then the files, every attachment\n"
        "compared with the copied files. xar: every page of the database must be in the export.\n"
        "Whatever fails, no set appears and older sets stay untouched.\n"
        "Exit codes: 8 no set came to be, 10 the store refuses, 75 another run is at work.",
    )
    command.add_argument(
        "kind",
        nargs="?",
        default=manifest.SITE,
        choices=KINDS,
        help="what to make (default: site)",
    )
    command = verb("list", _list, "All sets, newest first, with what was proven of each",
                   "Reads only.")  # fmt: skip
    _add_kind(command, "only these (default: both kinds)")
    command = verb("show", _show, "One set: content, counts, where it stands in the chain", "")
    _add_set(command)
    _add_kind(command, "whose newest set (default: site)")
    command = verb(
        "verify",
        _verify,
        "Prove that a set is intact, or with --opened that it opens and is whole",
        "Intact needs no key: every stored byte against the signed manifest. Opened needs a key:\n"
        "all of it decrypted, rows and files counted and hashed. A signed record goes to the\n"
        "bucket; prune and status believe nothing else. Exit code 9 where a proof fails.",
    )
    _add_set(command)
    _add_kind(command, "only these (default: the newest of each kind)")
    command.add_argument("--all", action="store_true", help="every set instead of one")
    command.add_argument("--opened", action="store_true", help="open it, where a key is")
    command.add_argument("--no-record", action="store_true", help="leave no record in the bucket")
    command = verb(
        "restore",
        _restore,
        "Bring a set back into an empty target, or one page beside the live one",
        "Refuses a target that holds anything, another environment, a set that is damaged or\n"
        "newer than the server, a missing key: all before the first write. Then loads, counts\n"
        "rows, writes files and checks each hash. XWiki must be stopped.\n"
        "With --kind xar XWiki must run: its own export is imported into a fresh wiki, and every\n"
        "page read again. With --page one page of such a set is put beside the live one, which\n"
        "stays as it is; with --attachment only that attachment, beside the live page's.\n"
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
    _add_kind(command, "of which kind (default: site)")
    command.add_argument(
        "--page",
        type=_given,
        metavar="REFERENCE",
        help="one page of a xar set: Space.Page",
    )
    command.add_argument(
        "--attachment",
        type=_given,
        metavar="NAME",
        help="of that page, and nothing else of it",
    )
    command.add_argument(
        "--as",
        dest="target",
        type=_given,
        metavar="NAME",
        help="reference of the copied page, or name of the copied attachment (default: the own"
        " one with the set's day)",
    )
    command = verb(
        "drill",
        _drill,
        "Try a restore: bring a set back beside the wiki, start it, ask it, sign what came of it",
        "For the pod of CronJob drill, which has a MySQL and an XWiki of its own; it refuses any\n"
        "other. Without a name the newest proven set is tried, in even months an older one.\n"
        "Exit codes: 6 refused, 9 a probe failed, 5 slower than promised, 3 nothing answered.",
    )
    command.add_argument(
        "set", nargs="?", default="", help="id of a set or its beginning, or `newest`"
    )
    command.add_argument("--older", action="store_true", help="a random one of the older sets")
    _add_kind(command, "of which kind (default: site)")
    verb(
        "canary",
        _canary,
        "Write the page and the attachment that every drill looks for",
        "Shortly before each set: what a drill finds tells of which moment the set is.",
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
        "At most a fifth of all sets goes at a time; objects that no set names go after 48 h.\n"
        "Each kind of set is judged by itself; one that is wrong keeps nothing of the other.",
    )
    _add_kind(command, "only these (default: both kinds)")
    command.add_argument("--apply", action="store_true", help="act instead of only saying so")
    verb(
        "status",
        _status,
        "Newest set and its age against the promise, newest proofs, what is wrong",
        "Exit code 5 when something is wrong, each with what to do.",
    )
    command = verb(
        "exporter",
        _exporter,
        "Tell Prometheus of the bucket: ages, sizes, proofs, drills, locks",
        "It reads the bucket every so often and answers scrapes from memory at once. A bucket\n"
        "that cannot be read leaves the last reading standing, and xwiki_stack_backup_up at 0.\n"
        "With --once it prints what a scrape would get; exit code 10 where the store fails.",
    )
    command.add_argument(
        "--listen", default=":9105", metavar="HOST:PORT", help="where to answer (default: :9105)"
    )
    command.add_argument(
        "--every",
        type=float,
        default=300,
        metavar="SECONDS",
        help="between readings (default: 300)",
    )
    command.add_argument("--once", action="store_true", help="print one reading and end")


def _run(arguments: argparse.Namespace) -> None:
    known = _config(arguments)
    outcome: Outcome[Any] = RUNS[arguments.kind](known, print)
    made: Manifest = outcome.found.manifest
    print(
        f"set {made.id}: {size(made.bytes)}, {size(outcome.sent)} of it sent now,"
        f" in {clock(outcome.seconds)}"
    )


def _list(arguments: argparse.Namespace) -> None:
    print(report.listed(_config(arguments), _kinds(arguments)))


def _show(arguments: argparse.Namespace) -> None:
    print(report.shown(_config(arguments), arguments.set, arguments.kind or manifest.SITE))


def _status(arguments: argparse.Namespace) -> int:
    state = report.status(_config(arguments))
    print(state.text)
    return 0 if state.healthy else 5


def _verify(arguments: argparse.Namespace) -> None:
    if arguments.all and arguments.set != "newest":
        raise IntentError(f"{arguments.set} and --all do not go together", allowed="one of them",
                          next="`xwiki-stack backup verify --help`")  # fmt: skip
    known = _config(arguments)
    # All sets are proven by hand, and that may take a day.
    with nullcontext() if arguments.all else deadline.within(known.limits.run_minutes):
        _prove(known, arguments)


def _prove(known: Config, arguments: argparse.Namespace) -> None:
    store = Store(known)
    identities = keyring.openers(known) if arguments.opened else []
    signing = None if arguments.no_record else keyring.signing(known)
    sets = manifest.listings(store, known.need_trusted(), known.environment, _kinds(arguments))
    chosen, failed = _chosen(sets, arguments)
    with store.told(Progress("read", print).add):
        for kind, some in chosen.items():
            for proof in verify.proofs(store, sets[kind].sets, some, identities):
                speed = rate(proof.bytes, proof.seconds)
                words = f"NO: {proof.error}" if proof.error else f"{size(proof.bytes)}, {speed}"
                print(f"{proof.found.manifest.id}  {kind}  {proof.kind}  {words}")
                failed += [proof.error] if proof.error else []
                if signing:
                    evidence.write(store, verify.record(proof, stamp(store.now())), signing)
    if failed:
        raise failed[0] if len(failed) == 1 else DamagedError(
            f"{len(failed)} proofs failed, the first: {failed[0]}"
        )  # fmt: skip


def _chosen(
    sets: dict[str, Listing[Manifest]], arguments: argparse.Namespace
) -> tuple[dict[str, list[Found[Manifest]]], list[DamagedError]]:
    """The sets to prove by kind, and what is wrong with manifests among the wished ones."""
    if arguments.all:
        broken = [error for each in sets.values() for error in each.unreadable.values()]
        return {kind: list(reversed(each.sets)) for kind, each in sets.items()}, broken
    if arguments.set != "newest":
        found = manifest.merged(sets.values()).find(arguments.set)
        return {found.manifest.kind: [found]}, []
    newest, broken = {}, []
    for kind, each in sets.items():
        if each.unreadable and (not each.newest or max(each.unreadable) > each.newest.manifest.id):
            broken.append(each.unreadable[max(each.unreadable)])
        elif each.newest:
            newest[kind] = [each.newest]
    if not newest and not broken:
        raise IntentError("there is no set", next="`xwiki-stack backup run`")
    return newest, broken


def _restore(arguments: argparse.Namespace) -> None:
    name = "" if arguments.set == "newest" else arguments.set
    _expect_sense(arguments)
    if arguments.page:
        one = page.Wish(arguments.page, arguments.attachment or "", arguments.target or "", name,
                        arguments.source)  # fmt: skip
        copy = page.beside(_config(arguments), one, print)
        print(f"made {copy.reference}: {copy.url}")
        return
    if arguments.kind == manifest.XAR:
        imported = xar_restore.restore_xar(
            _config(arguments), restore.Wish(name, source=arguments.source), print
        )
        print(
            f"restored {imported.found.manifest.id}: {imported.pages} pages and translations,"
            f" {imported.attachments} attachments, in {clock(imported.seconds)}"
        )
        return
    wish = restore.Wish(name, arguments.only or restore.ALL, arguments.source)
    outcome = restore.restore(_config(arguments), wish, print)
    print(
        f"restored {outcome.found.manifest.id}: {outcome.tables} tables, {outcome.files} files,"
        f" in {clock(outcome.seconds)}; start XWiki now"
    )


def _given(text: str) -> str:
    """What a variable that is empty would turn into another request."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _expect_sense(arguments: argparse.Namespace) -> None:
    """Raises IntentError for options that do not go together."""
    xars = arguments.kind == manifest.XAR or arguments.page
    for wrong, words in (
        ((arguments.attachment or arguments.target) and not arguments.page,
         "--attachment and --as need --page"),
        (arguments.page and arguments.kind == manifest.SITE,
         "--page comes out of a set of kind xar"),
        (xars and arguments.only, "--only is for sets of kind site"),
    ):  # fmt: skip
        if wrong:
            raise IntentError(words, next="`xwiki-stack backup restore --help`")


def _drill(arguments: argparse.Namespace) -> None:
    known = _config(arguments)
    wish = drill.Wish(arguments.set, arguments.older, arguments.kind or manifest.SITE)
    outcome = drill.drill(known, wish, print)
    slow = outcome.rto > drill.SLOW * outcome.objective
    print(
        f"drill on {outcome.found.manifest.id} held: {outcome.words}"
        + (f"; slow: more than {drill.SLOW:.0%} of what is promised" if slow else "")
    )


def _canary(arguments: argparse.Namespace) -> None:
    known = _config(arguments)
    with deadline.within(known.limits.run_minutes):
        made = canary.write(known)
    print(f"{canary.PAGE}: token {made.token} of {made.at}, {made.attachment} {made.sha256}")


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
    print(f"set {made.id}: {size(made.bytes)}, in {clock(outcome.seconds)}")
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
    known, refused = _config(arguments), list[StackError]()
    for kind in _kinds(arguments):
        try:
            outcome = retention.prune(
                known, print, apply=arguments.apply, shape=manifest.KINDS[kind]
            )
        except StackError as error:
            refused.append(error)
            print(f"{kind}: {error}")
            continue
        gone = len(outcome.plan.drop)
        if outcome.applied:
            print(f"{kind}: {gone} sets went, {len(outcome.plan.keep)} stay")
        else:
            print(f"{kind}: {gone} sets would go, {len(outcome.plan.keep)} stay; --apply does it")
    if refused:
        raise refused[0]


def _kinds(arguments: argparse.Namespace) -> tuple[str, ...]:
    return (arguments.kind,) if arguments.kind else KINDS


def _exporter(arguments: argparse.Namespace) -> None:
    exporter = metrics.Exporter(_config(arguments), arguments.every, partial(print, flush=True))
    if arguments.once:
        try:
            exporter.read()
        finally:
            print(exporter.text(), end="")
        return
    host, _, port = arguments.listen.rpartition(":")
    if not (port.isdigit() and int(port) < 65536 and arguments.every > 0):
        raise IntentError(
            f"--listen {arguments.listen} --every {arguments.every:g} cannot be meant",
            allowed="HOST:PORT, or :PORT; more than 0 seconds",
        )
    exporter.serve(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - scraped from outside
    print(f"answering at {arguments.listen}, reading every {arguments.every:g} s", flush=True)
    exporter.work()


def _config(arguments: argparse.Namespace) -> Config:
    return config.load(arguments.config)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "set", nargs="?", default="newest", help="id of a set or its beginning (default: newest)"
    )


def _add_kind(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument("--kind", choices=KINDS, help=meaning)
