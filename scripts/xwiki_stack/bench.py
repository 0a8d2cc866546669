"""Figures, measured in one run on one machine and written where documents take them from.

Never a test: nothing fails here because a machine is slow. Each figure is the median of several
runs; where a goal exists it stands beside the figure, reached or not.
"""

import contextlib
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import yaml

from xwiki_stack import (
    cluster,
    demo,
    generate,
    intent,
    packets,
    proc,
    render,
    repo,
    steps,
    suite,
    up,
)
from xwiki_stack.errors import IntentError, MachineError
from xwiki_stack.figures import Document, Figure, keep
from xwiki_stack.kube import Kube

RUNS = 5
PAIRS = 41
CLUSTER = "xwiki-stack-bench"
PORT = 18090
BACKUPS = ("engine", "tool-versitygw", "image-mysql", "image-xwiki")
"""Steps of a cluster that servers without one need too; the images only where none is pulled."""

SIZES = ("small", "full")
"""Of the data that backups are measured on (tests/benchmarks/content.py)."""

DOCUMENT = Document(
    results=repo.ROOT / "docs" / "results" / "bench.json",
    page=repo.ROOT / "docs" / "benchmarks.md",
    head=(
        "# Benchmarks",
        "",
        "Written by `make bench` from `docs/results/bench.json`; do not edit. No test depends on",
        "these figures. A peer's figure that was not measured in the same run is a reference only.",
        "Steps overlap, so those of one `make up` sum to more than it takes. XWiki's own figures",
        "are the stand-in's until the README names a day on which the real image was proven.",
    ),
    blocks={},
)

Emit = Callable[[str], None]
Ask = Callable[[str], bool]


def bench(only: Sequence[str], *, emit: Emit, ask: Ask) -> str:
    """Measure what `only` names (nothing means all), write both files, give where they are.

    What is not measured stays, with the commit, machine and day of its own run.
    Raises IntentError for an unknown name.
    """
    known: dict[str, Callable[[Emit, Ask], list[Figure]]] = {
        "generate": lambda _emit, _ask: _generate(),
        "template": lambda _emit, _ask: _template(),
        "up": _up,
        "demo": _demo,
        "packets": _packets,
    }
    if unknown := set(only) - set(known):
        raise IntentError(
            f"no figure is called {', '.join(sorted(unknown))}", allowed=", ".join(known)
        )
    steps.execute(cluster.tool_steps(), emit)
    groups = DOCUMENT.read()
    for name in only or known:
        emit(f"measuring {name} ...")
        groups[name] = DOCUMENT.measured(known[name](emit, ask))
    DOCUMENT.write(keep([*known], groups))
    return f"written: {repo.relative(DOCUMENT.results)}, {repo.relative(DOCUMENT.page)}"


def backups(parts: Sequence[str], size: str, *, emit: Emit, ask: Ask) -> int:
    """Measure backups against their peers; give the exit code of what measures.

    That lies beside the tests, whose servers and wikis it uses (tests/benchmarks): here is only
    made ready what it needs. Raises MachineError where a machine cannot tell what programs hold.
    """
    if sys.platform != "linux":
        raise MachineError(
            "memory and disk of programs are read from Linux' /proc", next="use a machine with it"
        )
    up.install_system_packages(emit, ask, CLUSTER, peers=True)
    plan = cluster.prepare(cluster.Config(name=CLUSTER, extras=True))
    steps.execute(_needed(plan, BACKUPS), emit)
    argv = [sys.executable, "-m", "tests.benchmarks", "--size", size, *parts]
    return proc.attached(argv, env=cluster.environment(CLUSTER), cwd=repo.ROOT)


def _needed(plan: Sequence[steps.Step], names: Iterable[str]) -> list[steps.Step]:
    """The steps of these names, if they are in the plan, and what they need."""
    known, wanted, left = {step.name: step for step in plan}, set[str](), [*names]
    while left:
        name = left.pop()
        if name in known and name not in wanted:
            wanted.add(name)
            left += known[name].needs
    return [step for step in plan if step.name in wanted]


def _generate() -> list[Figure]:
    """From an environment's intent to the objects of its chart."""
    figures = []
    for env in intent.environments():
        note = ", undecided" if intent.load_environment(env).undecided else ""
        seconds = _median(partial(_generate_and_render, env))
        figures.append(Figure(f"generate and render {env}{note}", f"{seconds * 1000:.0f} ms"))
    return figures


def _generate_and_render(env: str) -> None:
    (values,) = generate.preview([env])
    render.helm_template(values=[yaml.safe_load(values.text)], helm=cluster.tools().helm)


def _template() -> list[Figure]:
    """Milliseconds of `helm template` per object, above the start of the helm process itself."""
    helm = cluster.tools().helm
    values = repo.ROOT / "values" / "generated" / "local" / "xwiki-stack.yaml"
    count = len(render.helm_template(values=[values], helm=helm))
    # In turn, many times: a dozen objects cost less than two starts of helm differ by.
    above = [
        _seconds(lambda: render.helm_template_text(values=[values], helm=helm))
        - _seconds(lambda: proc.run([helm, "version", "--short"]))
        for _ in range(PAIRS)
    ]
    each = statistics.median(above) * 1000 / count
    # The peers' figures were measured once on their own default renders, on another day; they say
    # what is usual, not who is faster today.
    peers = {"zero-to-jupyterhub-k8s": 3.7, "ess-helm": 9.7}
    return [
        Figure(
            f"helm template per object ({count} objects)",
            f"{each:.1f} ms",
            f"{peer} {theirs} ms",
            f"{each / theirs:.2f}",
            "<= 3 ms",
        )
        for peer, theirs in peers.items()
    ]


def _up(emit: Emit, ask: Ask) -> list[Figure]:
    """`make up` on a cluster made from nothing and on one that runs, its memory at rest."""
    with _from_nothing(emit, ask):
        before = [
            _timed("ci/setup", [repo.ROOT / "ci" / "setup"]),
            _timed("start of the command", [Path(sys.executable).with_name("xwiki-stack"), "-h"]),
        ]
        begun = sum(item.seconds for item in before)
        anew, seconds = _clocked_up(emit, ask)
        again, more = _clocked_up(emit, ask)
        took = {item.name: item.seconds for item in anew.done}
        waited = ("chart", "database", "wiki", "bootstrap", "url", "page")
        first_page = sum(took[name] for name in waited)
        made, kept = "`make up`, cluster made from nothing", "`make up`, everything running"
        return [
            Figure(f"{made}, artefacts cached", f"{begun + seconds:.1f} s", goal="<= 90 s"),
            *_by_step(made, [*before, *anew.done]),
            Figure(kept, f"{begun + more:.1f} s"),
            *_by_step(kept, [*before, *again.done]),
            Figure("helm install to first page", f"{first_page:.1f} s"),
            *_memory(anew.state.namespace),
        ]


def _demo(emit: Emit, ask: Ask) -> list[Figure]:
    """`make demo` on a cluster made from nothing and on one that runs: it fails where the page
    does not come back."""
    figures = []
    with _from_nothing(emit, ask, extras=True):
        for what in ("cluster made from nothing, artefacts cached", "cluster running"):
            seconds = _seconds(partial(demo.demo, CLUSTER, PORT, emit=emit, ask=ask))
            figures.append(Figure(f"`make demo`, {what}", f"{seconds:.0f} s", goal="<= 300 s"))
    return figures


def _packets(emit: Emit, ask: Ask) -> list[Figure]:
    """Connections between pods of the tests' stage, all open; many at a time."""
    probes, seconds = packets.measured(partial(suite.test, emit=emit, ask=ask))
    each = f"{seconds * 500 / probes:.1f} s"
    return [Figure(f"500 probes by packets, of {probes} side by side", each, goal="<= 15 s")]


@contextlib.contextmanager
def _from_nothing(emit: Emit, ask: Ask, *, extras: bool = False) -> Iterator[None]:
    """Without the bench's cluster, with all that it is made from, and without it again."""
    if cluster.delete(CLUSTER):
        emit(f"deleted the cluster {CLUSTER} of an earlier run")
    try:
        up.install_system_packages(emit, ask, CLUSTER)
        # What a cluster is made from is cached; its absence would measure the compiler.
        plan = cluster.prepare(cluster.Config(name=CLUSTER, extras=extras))
        steps.execute([step for step in plan if step.name not in ("cluster", "load")], emit)
        yield
    finally:
        up.delete(CLUSTER)


def _clocked_up(emit: Emit, ask: Ask) -> tuple[up.Up, float]:
    began = time.monotonic()
    done = up.up("local", PORT, CLUSTER, emit=emit, ask=ask)
    return done, time.monotonic() - began


def _timed(title: str, argv: proc.Argv) -> steps.Done:
    began = time.monotonic()
    proc.run(argv)
    return steps.Done(title, title, "done", time.monotonic() - began)


def _by_step(what: str, done: Sequence[steps.Done]) -> list[Figure]:
    """Every step; those that had nothing to do in one figure."""
    idle = [item for item in done if item.outcome.startswith("nothing to do")]
    figures = [
        Figure(f"{what}: {item.title}", f"{item.seconds:.2f} s")
        for item in done
        if item not in idle
    ]
    if idle:
        seconds = sum(item.seconds for item in idle)
        name = f"{what}: {len(idle)} steps with nothing to do"
        figures.append(Figure(name, f"{seconds:.2f} s"))
    return figures


def _memory(namespace: str) -> list[Figure]:
    """Working sets of pods and resident sets of programs, a minute after the first page."""
    proc.pause(60)
    kube = Kube(cluster.kubeconfig(CLUSTER))
    pods = {f"{ns}/{pod}": size for ns, pod, size in kube.pod_memory() if size}
    wiki = {name: size for name, size in pods.items() if name.startswith(f"{namespace}/")}
    beside = {"pods": sum(pods.values()) - sum(wiki.values()), **cluster.platform_memory(CLUSTER)}
    total = sum(wiki.values())
    return [
        *(
            Figure(f"idle memory of {_workload(name)}", f"{size / 2**20:.0f} MiB")
            for name, size in sorted(wiki.items())
        ),
        *(
            Figure(
                f"idle memory of the platform: {what}",
                f"{size / 2**20:.0f} MiB",
                f"XWiki and MySQL {total / 2**20:.0f} MiB",
                f"{size / total:.2f}" if total else "",
            )
            for what, size in beside.items()
        ),
    ]


def _workload(pod: str) -> str:
    """A pod's workload: its name without what controllers put behind it."""
    return re.sub(r"(-[0-9a-f]{6,10}-[a-z0-9]{5}|-[0-9]+)$", "", pod.partition("/")[2])


def _median(work: Callable[[], object]) -> float:
    """Seconds of one call: the median of RUNS, after one that warms the caches."""
    work()
    return statistics.median(_seconds(work) for _ in range(RUNS))


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
