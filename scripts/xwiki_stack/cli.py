"""The `xwiki-stack` command: the only module that parses arguments and prints.

A verb is a few lines that call a room and print what it gives back. Errors end as one line on
standard error and the exit code of their class (docs/reference/exit-codes.md).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from xwiki_stack import (
    bench,
    checks,
    decisions,
    generate,
    proc,
    repo,
    sizing,
    suite,
    up,
)
from xwiki_stack.errors import DriftError, RefusedError, StackError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; give the exit code."""
    # Lines appear as they come, also into a pipe or a CI log.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.verb(arguments) or 0)
    except StackError as error:
        print(f"xwiki-stack: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        proc.end_children()
        print("xwiki-stack: interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone; what is left to flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
    report = up.state(arguments.env, arguments.cluster)
    print(up.state_text(report, arguments.cluster))
    return 0 if report.healthy else 5


def _password(arguments: argparse.Namespace) -> None:
    print(up.password(arguments.env, arguments.cluster))


def _kubectl(arguments: argparse.Namespace) -> None:
    up.become_kubectl(arguments.env, arguments.cluster, arguments.words)


def _expand(arguments: argparse.Namespace) -> None:
    print(up.grow(arguments.env, arguments.cluster, recreate=arguments.recreate))


def _generate(arguments: argparse.Namespace) -> None:
    names = [arguments.env] if arguments.env else None
    if arguments.preview:
        print("---\n".join(item.text for item in generate.preview(names)), end="")
    elif arguments.check:
        if difference := generate.drift(names):
            print("\n".join(difference))
            raise DriftError(
                "generated files differ from the intent", next="run `make generate` and commit"
            )
        print("generated files are what the intent says")
    else:
        outcome = generate.generate(names)
        for path in outcome.written:
            print(f"written: {repo.relative(path)}")
        for path in outcome.removed:
            print(f"removed: {repo.relative(path)} (no decided intent gives it)")
        if not outcome.written and not outcome.removed:
            print("nothing to do: generated files are what the intent says")
        for name in outcome.skipped:
            print(f"skipped: {name} is undecided; `xwiki-stack decisions --env {name}` says why")


def _decisions(arguments: argparse.Namespace) -> None:
    print(decisions.text(arguments.env))


def _sizing(arguments: argparse.Namespace) -> None:
    print(sizing.text(arguments.cluster_file))


def _check(_arguments: argparse.Namespace) -> int:
    return checks.check(emit=print)


def _test(arguments: argparse.Namespace) -> int:
    return suite.test(arguments.words, emit=print, ask=_asker(arguments))


def _bench(arguments: argparse.Namespace) -> None:
    print(bench.bench(arguments.only, emit=print, ask=_asker(arguments)))


def _asker(arguments: argparse.Namespace, *, unattended: bool = True) -> Callable[[str], bool]:
    """Asks on a terminal; --yes or YES=1 answers yes, and where nobody can answer: `unattended`."""

    def ask(question: str) -> bool:
        if arguments.yes or os.environ.get("YES") == "1":
            return True
        if not sys.stdin.isatty():
            return unattended
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    return ask


Verb = Callable[[argparse.Namespace], object]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xwiki-stack",
        description="XWiki and MySQL on Kubernetes: intent to values, a local cluster, proofs.",
        epilog="Exit codes: docs/reference/exit-codes.md. State: ~/.cache/xwiki-stack, or where "
        "XWIKI_STACK_CACHE points.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Verb, summary: str, more: str = "") -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary}. {more}".strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(verb=run)
        return added

    def add_cluster(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--cluster",
            default=os.environ.get("XWIKI_STACK_CLUSTER", up.CLUSTER),
            help=f"name of the kind cluster (default: {up.CLUSTER}, or XWIKI_STACK_CLUSTER)",
        )

    def add_env(added: argparse.ArgumentParser, default: str | None = "local") -> None:
        added.add_argument("--env", default=default, help="environment: a file of values/envs/")

    def add_yes(added: argparse.ArgumentParser) -> None:
        added.add_argument("--yes", action="store_true", help="do not ask (also YES=1)")

    command = verb(
        "up",
        _up,
        "Bring the wiki up on a local kind cluster and wait for a real page",
        "Builds or pulls what is missing, installs the chart\nwith the generated values of the "
        "environment, and forwards a local port.\nRun again, it converges and says where there "
        "was nothing to do.",
    )
    add_env(command)
    add_cluster(command)
    add_yes(command)
    command.add_argument("--port", type=_port, default=8080, help="local port (default: 8080)")

    command = verb("down", _down, "Stop the local cluster; its pages stay for the next `up`")
    add_cluster(command)

    command = verb("delete", _delete, "Delete the local cluster and every page in it")
    add_cluster(command)
    add_yes(command)

    command = verb(
        "status",
        _status,
        "What runs, and if something is wrong: what, and what to do",
        "Exit code 5 when something is wrong.",
    )
    add_env(command)
    add_cluster(command)

    command = verb("password", _password, "Print the password of the wiki's admin")
    add_env(command)
    add_cluster(command)

    command = verb("kubectl", _kubectl, "kubectl on the local cluster and the wiki's namespace")
    add_env(command)
    add_cluster(command)
    command.add_argument("words", nargs=argparse.REMAINDER, help="what kubectl is to do")

    command = verb(
        "expand",
        _expand,
        "Grow MySQL's claim to the size the intent says",
        "A claim template cannot change, so a raised size\nreaches the claim by this command. "
        "With --recreate the StatefulSet itself is made anew, its pod\nand data untouched, so "
        "that a raised claimTemplateSize is accepted.",
    )
    add_env(command)
    add_cluster(command)
    command.add_argument(
        "--recreate", action="store_true", help="re-make the StatefulSet, leaving its pod running"
    )

    command = verb("generate", _generate, "Write values/generated from the intent in values/")
    add_env(command, default=None)
    _add_ways_not_to_write(command)

    command = verb("decisions", _decisions, "The open decisions: state, owner, what each changes")
    add_env(command, default="prod")

    command = verb("sizing", _sizing, "What a cluster's environments request, and whether it fits")
    command.add_argument(
        "--cluster", dest="cluster_file", default="main", help="a file of values/clusters/"
    )

    verb("check", _check, "Everything that needs no cluster")

    command = verb("test", _test, "Every test, on a kind cluster of their own")
    add_yes(command)
    command.add_argument("words", nargs="*", help="arguments for pytest")

    command = verb("bench", _bench, "Measure, and write docs/results and docs/benchmarks.md")
    add_yes(command)
    command.add_argument("only", nargs="*", help="names of figures; none means all")
    return parser


def _add_ways_not_to_write(generating: argparse.ArgumentParser) -> None:
    ways = generating.add_mutually_exclusive_group()
    ways.add_argument("--check", action="store_true", help="only say, with the diff, what differs")
    ways.add_argument(
        "--preview", action="store_true", help="print instead of writing, undecided or not"
    )


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return port
