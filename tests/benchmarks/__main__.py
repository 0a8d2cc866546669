"""`python -m tests.benchmarks`, what `make bench-backups` starts once all is installed."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import daily, dump, engine, restore, verify
from tests.benchmarks.bed import Bed
from tests.benchmarks.content import SIZES, Size
from tests.benchmarks.results import DOCUMENT
from xwiki_stack import repo, steps
from xwiki_stack.cluster import artefacts
from xwiki_stack.errors import IntentError, StackError
from xwiki_stack.figures import Figure, Group, keep

PARTS: dict[str, Callable[[Bed], list[Figure]]] = {
    "dump": dump.measure,
    "restore": restore.measure,
    "daily": daily.measure,
    "verify": verify.measure,
    "engine": engine.measure,
}
"""What can be asked for, in the order of the page. One more part is a module and a line here."""

BUDGET = {"dump": 8, "restore": 10, "daily": 5, "verify": 3, "engine": 4}
"""Minutes that a part may take in full size on two quiet cores, its share of what it is made on
included; printed beside what it took."""

GIGABYTES = {"small": 2, "full": 25}
"""Room on the disk of the cache."""


def measure(size: Size, names: Sequence[str], emit: Callable[[str], None]) -> None:
    """Measure parts, and write what each found as soon as it is known."""
    emit(f"load of the machine: {os.getloadavg()[0]:.1f} in the last minute; quiet is below 0.5")
    with artefacts.lock("benchmarks"), artefacts.workspace("benchmarks") as folder:
        artefacts.require_disk(GIGABYTES[size.name])
        bed = Bed(size, folder, emit)
        try:
            for name in names:
                _measure(bed, name, emit)
        finally:
            bed.close()


def _measure(bed: Bed, name: str, emit: Callable[[str], None]) -> None:
    emit(f"{name}: at most about {BUDGET.get(name, 5)} min in full size")
    began, load = time.monotonic(), os.getloadavg()[0]
    found = PARTS[name](bed)
    took = time.monotonic() - began
    groups: dict[str, Group] = DOCUMENT.read()
    groups[name] = DOCUMENT.measured(found, circumstances(bed.size, load, took))
    DOCUMENT.write(keep([*PARTS], groups))
    emit(f"{name}: {len(found)} figures ({steps.clock(took)})")


def circumstances(size: Size, load: float, took: float) -> str:
    """What a reader of figures must know beside commit and machine."""
    trial = (
        "A TRIAL of the code with little data, no figure to quote: " if size.name != "full" else ""
    )
    return (
        f"{trial}{size.sql / 1e6:.0f} MB of SQL, {size.files / 1e6:.0f} MB in {size.count} files,"
        f" {size.runs} runs, {size.days} daily sets; load of the machine before it {load:.1f};"
        f" {steps.clock(took)}."
    )


def main(argv: Sequence[str]) -> int:
    """Parse and run; errors end as one line, as everywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("parts", nargs="*", help="none means all")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    try:
        if unknown := set(arguments.parts) - set(PARTS):
            raise IntentError(
                f"no part is called {', '.join(sorted(unknown))}", allowed=", ".join(PARTS)
            )
        measure(SIZES[arguments.size], arguments.parts or [*PARTS], _say)
    except StackError as error:
        print(f"bench-backups: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bench-backups: interrupted; finished parts are written", file=sys.stderr)
        return 130
    took = steps.clock(time.monotonic() - began)
    written = " and ".join(repo.relative(Path(p)) for p in (DOCUMENT.results, DOCUMENT.page))
    _say(f"written: {written} ({took})")
    return 0


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    # A closed terminal or a `kill` ends servers and containers as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
