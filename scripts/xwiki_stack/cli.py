"""The `xwiki-stack` command: the only module that parses arguments and prints.

A verb is a few lines that call a room and print what it gives back. Errors end as one line on
standard error and the exit code of their class (docs/reference/exit-codes.md).
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from xwiki_stack import (
    bench,
    checks,
    cluster,
    decisions,
    demo,
    enforcement,
    faults,
    generate,
    images,
    matrix,
    mutation,
    packets,
    proc,
    repo,
    scan,
    sizing,
    steps,
    suite,
    up,
    upstream,
)
from xwiki_stack.backup import cli as backups
from xwiki_stack.errors import (
    AttentionError,
    DriftError,
    IntentError,
    MachineError,
    RefusedError,
    StackError,
)
from xwiki_stack.review import report, review
from xwiki_stack.secrets import cli as sealed
from xwiki_stack.upgrade import cli as upgrades
from xwiki_stack.verbs import Add, adder

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; give the exit code."""
    # Lines appear as they come, also into a pipe or a CI log.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        with _interruptible():
            # kubectl and helm keep theirs with ours, not in the user's home.
            os.environ.setdefault("KUBECACHEDIR", str(repo.cache() / "kube"))
            arguments = parse(argv)
            return int(arguments.verb(arguments) or 0)
    except StackError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("xwiki-stack: interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone; what is left to flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A full disk, a cache that is a file or belongs to another: no room of ours foresees all.
        way = f"look after that; {repo.CACHE_VARIABLE} moves the files of this tool elsewhere"
        return _fail(MachineError(" ".join(str(error).split()), next=way))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments as the verbs take them. Raises IntentError."""
    return _parser().parse_args(argv)


def _fail(error: StackError) -> int:
    print(f"xwiki-stack: {error}", file=sys.stderr)
    return error.exit_code


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a closed terminal) end us as Ctrl-C does: in order, all children too.

    A signal that is ignored (nohup) stays so.
    """

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise proc.Interrupted

    before = {
        number: handler
        for number in (signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) != signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _up(arguments: argparse.Namespace) -> None:
    report = up.up(
        arguments.env, arguments.port, arguments.cluster, emit=print, ask=_asker(arguments)
    )
    print(report.text)


def _down(arguments: argparse.Namespace) -> None:
    print(up.down(arguments.cluster))


def _delete(arguments: argparse.Namespace) -> None:
    question = f"This deletes the cluster {arguments.cluster} and every page in it. Go on?"
    if not _asker(arguments, unattended=False)(question):
        raise RefusedError("nothing was deleted", next="answer y, or say --yes (make: YES=1)")
    print(up.delete(arguments.cluster))


def _status(arguments: argparse.Namespace) -> int:
    elsewhere = _elsewhere(arguments)
    report = up.state(arguments.env, arguments.cluster, elsewhere)
    print(up.state_text(report, arguments.cluster, elsewhere))
    return 0 if report.healthy else 5


def _password(arguments: argparse.Namespace) -> None:
    print(up.password(arguments.env, arguments.cluster))


def _kubectl(arguments: argparse.Namespace) -> None:
    elsewhere = up.Elsewhere(namespace=arguments.namespace)
    up.become_kubectl(arguments.env, arguments.cluster, arguments.words, elsewhere)


def _expand(arguments: argparse.Namespace) -> None:
    elsewhere = _elsewhere(arguments)
    recreate = arguments.recreate
    print(up.grow(arguments.env, arguments.cluster, elsewhere, recreate=recreate))


def _elsewhere(arguments: argparse.Namespace) -> up.Elsewhere:
    return up.Elsewhere(arguments.namespace, arguments.kubeconfig, arguments.context)


def _generate(arguments: argparse.Namespace) -> None:
    names = [arguments.env] if arguments.env else None
    if arguments.preview:
        print("---\n".join(item.text for item in generate.preview(names)), end="")
    elif arguments.check:
        matrix.refuse_contradictions()
        if difference := generate.drift(names):
            print("\n".join(difference))
            raise DriftError(
                "generated files differ from the intent", next="run `make generate` and commit"
            )
        print("generated files are what the intent says")
    else:
        matrix.refuse_contradictions()
        outcome = generate.generate(names)
        for path in outcome.written:
            print(f"written: {repo.relative(path)}")
        for path in outcome.removed:
            print(f"removed: {repo.relative(path)} (no decided intent gives it)")
        if not outcome.written and not outcome.removed:
            print("nothing to do: generated files are what the intent says")
        for name in outcome.skipped:
            print(f"skipped: {name} is undecided; `xwiki-stack decisions --env {name}` says why")


def _upstream(_arguments: argparse.Namespace) -> None:
    found = upstream.findings()
    print(upstream.text(found))
    if wrong := sum(len(item.mistakes) for item in found):
        raise IntentError(
            f"{wrong} value(s) that no chart knows",
            where="values/templates",
            next="correct them there and run `make generate`",
        )


def _render(arguments: argparse.Namespace) -> None:
    print(generate.rendered(arguments.env, preview=arguments.preview), end="")


def _review(arguments: argparse.Namespace) -> None:
    found = review(arguments.start, arguments.end, arguments.env or "")
    forms = {"text": report.text, "markdown": report.markdown, "json": report.json_text}
    print(forms[arguments.format](found))
    if found.humans:
        raise AttentionError(
            f"{found.humans} of these changes need a human",
            next="answer what each says, or choose the time; docs/reference/review.md explains",
        )


def _images_list(arguments: argparse.Namespace) -> None:
    print(images.text(images.listing(_named(arguments))))


def _images_check(arguments: argparse.Namespace) -> None:
    loose = images.check(_named(arguments))
    for image in loose:
        print(f"not pinned: {image.environment}: {image.repository}:{image.tag} ({image.origin})")
    print("outside production that may wait" if loose else "every image is pinned by digest")


def _images_pin(arguments: argparse.Namespace) -> None:
    pins = images.pin(arguments.env, arguments.keys)
    for item in pins:
        change = "unchanged" if item.old == item.new else f"was {item.old or 'not pinned'}"
        print(f"{item.name} is {item.new} ({change})")
    if any(item.old != item.new for item in pins):
        print("written into the intent; next: `make generate`, then commit both")


def _named(arguments: argparse.Namespace) -> list[str]:
    return [arguments.env] if arguments.env else []


def _tools(_arguments: argparse.Namespace) -> None:
    steps.execute(cluster.tool_steps(), lambda text: print(text, file=sys.stderr))
    print(cluster.tools().folder)


def _decisions(arguments: argparse.Namespace) -> None:
    print(decisions.text(arguments.env))


def _sizing(arguments: argparse.Namespace) -> None:
    print(sizing.text(arguments.cluster_file))


def _check(_arguments: argparse.Namespace) -> int:
    return checks.check(emit=print)


def _test(arguments: argparse.Namespace) -> int:
    return suite.test(arguments.words, emit=print, ask=_asker(arguments))


def _demo(arguments: argparse.Namespace) -> None:
    print(demo.demo(arguments.cluster, arguments.port, emit=print, ask=_asker(arguments)))


def _bench(arguments: argparse.Namespace) -> None:
    print(bench.bench(arguments.only, emit=print, ask=_asker(arguments)))


def _faults(_arguments: argparse.Namespace) -> int:
    found = faults.prove(emit=print)
    print(found.summary)
    return int(not found.held)


def _flows(arguments: argparse.Namespace) -> int:
    if arguments.packets:
        told = packets.prove(partial(suite.test, emit=print, ask=_asker(arguments)))
        mutation.publish()
        print(told.summary)
        return int(bool(told.living or told.failed))
    found = mutation.prove()
    print(found.summary)
    return int(bool(found.living))


def _scan(arguments: argparse.Namespace) -> None:
    if arguments.images:
        wrong = scan.images(emit=print)
    else:
        wrong = scan.scan(write=not arguments.check, peers=arguments.peers, emit=print)
    for line in wrong:
        print(line)
    if wrong:
        raise IntentError(
            f"{len(wrong)} finding(s) that block",
            next="repair them, or accept each with its reason: ci/scanners.yaml, .trivyignore.yaml",
        )


def _enforcement(arguments: argparse.Namespace) -> None:
    if arguments.part == "answer":
        print(f"answering at {', '.join(map(str, enforcement.PORTS))}")
        enforcement.answer()
    if not arguments.target:
        raise IntentError("the probe has no target", next="name its address with --target")
    probe = enforcement.Probe(arguments.target, arguments.every, print)
    if arguments.once:
        probe.round()
        print(probe.text(), end="")
        return
    probe.serve(enforcement.METRICS)
    probe.work()


def _bench_backups(arguments: argparse.Namespace) -> int:
    code = bench.backups(arguments.parts, arguments.size, emit=print, ask=_asker(arguments))
    # Damage is found or it is not, whatever the size: a trial of the code alone does without.
    if code or arguments.parts or arguments.size != "full":
        return code
    return _faults(arguments)


def _asker(arguments: argparse.Namespace, *, unattended: bool = True) -> Callable[[str], bool]:
    """Asks on a terminal; --yes or YES=1 answers yes, and where nobody can answer: `unattended`."""

    def ask(question: str) -> bool:
        if arguments.yes or os.environ.get("YES") == "1":
            return True
        if not sys.stdin.isatty():
            return unattended
        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:  # Ctrl-D
            print()
            return False

    return ask


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise IntentError(message, next=f"`{self.prog} --help` shows what can be given")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Each verb refuses by itself what it does not know: argparse leaves it to the command."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="xwiki-stack",
        description="XWiki and MySQL on Kubernetes: intent to values, a local cluster, proofs.",
        epilog="Exit codes: docs/reference/exit-codes.md. State: ~/.cache/xwiki-stack, or where "
        "XWIKI_STACK_CACHE points.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = adder(verbs, between=" ")

    command = verb(
        "up",
        _up,
        "Bring the wiki up on a local kind cluster and wait for a real page",
        "Builds or pulls what is missing, installs the chart\nwith the generated values of the "
        "environment, and forwards a local port.\nRun again, it converges and says where there "
        "was nothing to do.",
    )
    _add_env(command)
    _add_place(command, port=8080)

    command = verb("down", _down, "Stop the local cluster; its pages stay for the next `up`")
    _add_cluster(command)

    command = verb("delete", _delete, "Delete the local cluster and every page in it")
    _add_cluster(command)
    _add_yes(command)

    command = verb(
        "status",
        _status,
        "What runs, and if something is wrong: what, and what to do",
        "Exit code 5 when something is wrong.",
    )
    _add_env(command)
    _add_cluster(command)
    _add_elsewhere(command)

    command = verb("password", _password, "Print the password of the wiki's admin")
    _add_env(command)
    _add_cluster(command)

    command = verb("kubectl", _kubectl, "kubectl on the local cluster and the wiki's namespace")
    _add_env(command)
    _add_cluster(command)
    _add_namespace(command)
    command.add_argument("words", nargs=argparse.REMAINDER, help="what kubectl is to do")

    command = verb(
        "expand",
        _expand,
        "Grow MySQL's claim to the size the intent says",
        "A claim template cannot change, so a raised size\nreaches the claim by this command. "
        "With --recreate the StatefulSet itself is made anew, its pod\nand data untouched, so "
        "that a raised claimTemplateSize is accepted.",
    )
    _add_env(command)
    _add_cluster(command)
    _add_elsewhere(command)
    command.add_argument(
        "--recreate", action="store_true", help="re-make the StatefulSet, leaving its pod running"
    )

    command = verb("generate", _generate, "Write values/generated from the intent in values/")
    _add_env(command, default=None)
    _add_ways_not_to_write(command)

    _add_looking(verb)

    verb(
        "upstream",
        _upstream,
        "Whether the values of upstream releases mean anything to their charts",
        "Each key is looked up in its chart: from the\ncache, its registry, or ../shared/upstream; "
        "what is nowhere stays unproven, and is said so.",
    )

    _add_supply(verb)

    command = verb("decisions", _decisions, "The open decisions: state, owner, what each changes")
    _add_env(command, default="prod")

    command = verb("sizing", _sizing, "What a cluster's environments request, and whether it fits")
    command.add_argument(
        "--cluster", dest="cluster_file", default="main", help="a file of values/clusters/"
    )

    command = verbs.add_parser(
        "backup",
        help="Sets of backups: make, prove, restore, prune",
        description="Sets of backups: made, proven, brought back. The same code runs in the "
        "CronJobs and at your desk.",
        epilog="`xwiki-stack backup VERB --help` explains each.",
    )
    backups.add(command)

    sealed.add(
        verbs.add_parser(
            "secrets",
            help="Secrets in Git, sealed: make, edit, rotate, check",
            description="Secrets in Git, sealed by SOPS to age keys. No plain value comes into a "
            "file of the checkout, an argument or an output.",
            epilog="`xwiki-stack secrets VERB --help` explains each.",
        )
    )
    _add_images(verbs)

    verb("check", _check, "Everything that needs no cluster")

    command = verb("test", _test, "Every test, on a kind cluster of their own")
    _add_yes(command)
    command.add_argument("words", nargs="*", help="arguments for pytest")

    _add_place(
        verb(
            "demo",
            _demo,
            "Write a page, back it up, destroy everything, bring it back by the runbook",
            "On the local cluster, in a namespace of\nits own (xwiki-stack-demo) and a bucket that "
            "is a stand-in; your own wiki is not touched.\nIt cleans up after itself.",
        ),
        port=18088,
    )

    _add_benches(verb)
    return parser


def _add_benches(verb: Add) -> None:
    command = verb("bench", _bench, "Measure, and write docs/results and docs/benchmarks.md")
    _add_yes(command)
    command.add_argument("only", nargs="*", help="names of figures; none means all")

    command = verb(
        "bench-backups",
        _bench_backups,
        "Measure backups against their peers, and write docs/benchmarks-backups.md",
        "A real MySQL, a real S3 server, the stand-in of XWiki; peers are installed from Debian.\n"
        "Full size takes up to 40 minutes on two quiet cores and 25 GB of disk. A part that is\n"
        "finished is written at once. Without PARTS the 28 faults follow, with every cut and flip.",
    )
    _add_yes(command)
    command.add_argument(
        "--size", choices=bench.SIZES, default="full", help="small: a trial of the code alone"
    )
    command.add_argument("parts", nargs="*", help="dump, restore, daily, ...; none means all")

    command = verb(
        "enforcement",
        _enforcement,
        "Try whether a cluster's network plugin enforces policies; what pods of charts/netpol run",
        "`answer` listens, `probe` connects where it may and where it may not, and tells "
        "Prometheus.",
    )
    command.add_argument("part", choices=("probe", "answer"))
    command.add_argument("--target", default="", metavar="ADDRESS", help="where `answer` runs")
    command.add_argument(
        "--every", type=float, default=60, metavar="SECONDS", help="between two tries; default 60"
    )
    command.add_argument("--once", action="store_true", help="try once, and print the metrics")

    verb("faults", _faults, "Prove the 28 faults of backups, and write docs/reference/faults.md")

    command = verb(
        "flows",
        _flows,
        "Hold policies against the table of flows, and write docs/reference/network.md",
        "Then each policy is deleted, narrowed and widened, one change at a time: the same\n"
        "comparison must notice, or the exit code is 1. No cluster is needed but with --packets:\n"
        "on the tests' cluster, where every policy is deleted and widened in turn; it takes long.",
    )
    command.add_argument(
        "--packets", action="store_true", help="try it by packets, every policy instead of a few"
    )


def _add_looking(verb: Add) -> None:
    """The verbs that show objects before anything is installed."""
    command = verb(
        "render",
        _render,
        "Print the objects of an environment, as Flux would install them",
        "The chart with the committed values; nothing is asked of\na cluster.",
    )
    _add_env(command)
    command.add_argument(
        "--preview",
        action="store_true",
        help="with the values that the intent gives now, undecided or not",
    )

    command = verb(
        "review",
        _review,
        "What a change does to every object, and what that means for who runs them",
        "Renders two commits\nwith their committed values and compares the objects field by field. "
        "Verdicts say what restarts and\nfor how long, what the API server will refuse and the way "
        "around, which volumes, images, rights,\nflows, Secrets and schedules change.\n\n"
        "  xwiki-stack review                           this work, against where it left main\n"
        "  xwiki-stack review --from HEAD~1 --to HEAD   the last commit\n"
        "  xwiki-stack review --from v1 --to v2         what an upgrade brings\n"
        "  xwiki-stack review --format markdown         for a pull request\n\n"
        "Exit code 20 when something needs a human, 0 when nothing does; "
        "docs/reference/review.md lists\nevery verdict.",
    )
    _add_env(command, default=None)
    command.add_argument(
        "--from",
        dest="start",
        metavar="REF",
        default="",
        help="commit, branch or tag to begin with (default: where the other end left main)",
    )
    command.add_argument(
        "--to",
        dest="end",
        metavar="REF",
        default="",
        help="commit, branch or tag to end with (default: the working tree)",
    )
    command.add_argument(
        "--format", choices=("text", "markdown", "json"), default="text", help="default: text"
    )

    upgrades.add(verb("upgrade", upgrades.run, upgrades.SUMMARY, upgrades.MORE))


def _add_images(verbs: Any) -> None:
    command = verbs.add_parser(
        "images",
        help="Container images: list, check, pin by digest",
        description="The container images of the environments: where each is written, and what "
        "pins it.\nA tag may mean something else tomorrow, a digest may not.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="`xwiki-stack images VERB --help` explains each.",
    )
    inner = command.add_subparsers(required=True, metavar="VERB")
    added = inner.add_parser("list", help="every image with origin, tag, digest and who runs it")
    _add_env(added, default=None)
    added.set_defaults(verb=_images_list)
    added = inner.add_parser(
        "check", help="which are not pinned; exit code 4 when one of production's is not"
    )
    _add_env(added, default=None)
    added.set_defaults(verb=_images_check)
    added = inner.add_parser(
        "pin",
        help="ask the registries what the tags mean now, and write that into the intent",
        description="Asks the registry of each image for the manifest of its tag and writes the "
        "digest into\n`images` of the environment's intent. Logs in nowhere.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_env(added)
    added.add_argument("keys", nargs="*", metavar="IMAGE", help="xwiki, mysql; none means both")
    added.set_defaults(verb=_images_pin)


def _add_supply(verb: Add) -> None:
    command = verb(
        "scan",
        _scan,
        "Ask checkov, kube-score and Trivy about every object, and write docs/security.md's tables",
        "What they may find stands in ci/scanners.yaml and .trivyignore.yaml, each check with its\n"
        "reason. No scanner asks any network but with --images. An answer is kept until an object\n"
        "or a scanner changes.",
    )
    ways = command.add_mutually_exclusive_group()
    ways.add_argument("--check", action="store_true", help="only say what is wrong")
    ways.add_argument(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help="renders of other charts to compare with, <name>@<chart-version>.yaml each",
    )
    ways.add_argument(
        "--images",
        action="store_true",
        help="pull every image of the environments, and ask Trivy about those instead",
    )

    verb(
        "tools",
        _tools,
        "Have kubectl, helm and kind in their pinned versions; prints their folder",
        "For a PATH of your own: PATH=$(xwiki-stack tools):$PATH",
    )


def _add_ways_not_to_write(generating: argparse.ArgumentParser) -> None:
    ways = generating.add_mutually_exclusive_group()
    ways.add_argument("--check", action="store_true", help="only say, with the diff, what differs")
    ways.add_argument(
        "--preview", action="store_true", help="print instead of writing, undecided or not"
    )


def _add_cluster(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--cluster",
        type=repo.cluster_name,
        default=os.environ.get("XWIKI_STACK_CLUSTER") or up.CLUSTER,
        help=f"name of the kind cluster (default: {up.CLUSTER}, or XWIKI_STACK_CLUSTER)",
    )


def _add_place(added: argparse.ArgumentParser, port: int) -> None:
    """A local cluster that may have to be made, and a port on this machine."""
    _add_cluster(added)
    _add_yes(added)
    words = f"local port (default: {port})"
    added.add_argument("--port", type=_port, default=port, help=words)


def _add_env(added: argparse.ArgumentParser, default: str | None = "local") -> None:
    added.add_argument("--env", default=default, help="environment: a file of values/envs/")


def _add_namespace(added: argparse.ArgumentParser) -> None:
    added.add_argument("-n", "--namespace", help="another one than the environment's")


def _add_elsewhere(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="of the environment's own cluster, where that is not the local one",
    )
    added.add_argument("--context", metavar="NAME", help="of that file, if not its current one")
    _add_namespace(added)


def _add_yes(added: argparse.ArgumentParser) -> None:
    added.add_argument("--yes", action="store_true", help="do not ask (also YES=1)")


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return port
