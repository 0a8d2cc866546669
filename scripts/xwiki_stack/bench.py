"""Figures, measured in one run on one machine and written where documents take them from.

Never a test: nothing fails here because a machine is slow. Each figure is the median of several
runs; where a goal exists it stands beside the figure, reached or not.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from xwiki_stack import cluster, generate, intent, proc, render, repo, steps, up
from xwiki_stack.errors import IntentError
from xwiki_stack.kube import Kube

RUNS = 5
CLUSTER = "xwiki-stack-bench"
PORT = 18090
RESULTS = repo.ROOT / "docs" / "results" / "bench.json"
PAGE = repo.ROOT / "docs" / "benchmarks.md"

Emit = Callable[[str], None]
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Figure:
    """One measured figure; `goal` and `peer` are what it is held against, '' where nothing is."""

    name: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""


def bench(only: Sequence[str], *, emit: Emit, ask: Ask) -> str:
    """Measure what `only` names (nothing means all), write both files, give where they are.

    Raises IntentError for an unknown name.
    """
    known: dict[str, Callable[[Emit, Ask], list[Figure]]] = {
        "generate": lambda _emit, _ask: _generate(),
        "template": lambda _emit, _ask: _template(),
        "up": _up,
    }
    if unknown := set(only) - set(known):
        raise IntentError(
            f"no figure is called {', '.join(sorted(unknown))}", allowed=", ".join(known)
        )
    steps.execute(cluster.tool_steps(), emit)
    figures = _kept(only)
    for name in only or known:
        emit(f"measuring {name} ...")
        figures[name] = known[name](emit, ask)
    _write(figures)
    return f"written: {repo.relative(RESULTS)}, {repo.relative(PAGE)}"


def _generate() -> list[Figure]:
    figures = []
    for env in intent.environments():
        if intent.load_environment(env).undecided:
            continue
        path = repo.ROOT / "values" / "generated" / env / "xwiki-stack.yaml"
        seconds = _median(lambda env=env, path=path: _generate_and_render(env, path))  # type: ignore[misc]
        figures.append(Figure(f"generate and render {env}", f"{seconds * 1000:.0f} ms"))
    return figures


def _generate_and_render(env: str, values: Path) -> None:
    generate.drift([env])
    render.helm_template(values=[values], helm=cluster.tools().helm)


def _template() -> list[Figure]:
    """Milliseconds of `helm template` per object, above the start of the helm process itself."""
    helm = cluster.tools().helm
    values = repo.ROOT / "values" / "generated" / "local" / "xwiki-stack.yaml"
    count = len(render.helm_template(values=[values], helm=helm))
    start = _median(lambda: proc.run([helm, "version", "--short"]))
    whole = _median(lambda: render.helm_template_text(values=[values], helm=helm))
    each = (whole - start) * 1000 / count
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
    """A first and a warm `up` on a cluster of its own, its memory at rest, then deleted."""
    up.install_system_packages(emit, ask)
    # What the cluster is built from is cached; its absence would measure the compiler.
    steps.execute(cluster.prepare(cluster.Config(name=CLUSTER)), emit)
    try:
        first = up.up("local", PORT, CLUSTER, emit=emit, ask=ask)
        seconds = {item.name: item.seconds for item in first.done}
        waited = ("chart", "database", "wiki", "bootstrap", "url", "page")
        until_page = sum(seconds[name] for name in waited)
        began = time.monotonic()
        warm = up.up("local", PORT, CLUSTER, emit=emit, ask=ask)
        whole = time.monotonic() - began
        figures = [
            Figure("helm install to first page", f"{until_page:.1f} s"),
            Figure("warm `make up`, everything running", f"{whole:.1f} s", goal="<= 90 s"),
        ]
        figures += [
            Figure(f"warm `make up`: {item.title}", f"{item.seconds:.2f} s")
            for item in warm.done
            if item.seconds >= 0.05
        ]
        return figures + _memory(first.state.namespace)
    finally:
        up.delete(CLUSTER)


def _memory(namespace: str) -> list[Figure]:
    """Working sets a minute after the first page, in MiB, by what the kubelets report."""
    time.sleep(60)
    kube = Kube(cluster.kubeconfig(CLUSTER))
    ours = {f"{ns}/{pod}": size for ns, pod, size in kube.pod_memory()}
    wiki = sum(size for name, size in ours.items() if name.startswith(f"{namespace}/"))
    platform_pods = sum(ours.values()) - wiki
    figures = [
        Figure(f"idle memory of {name.split('/')[1]}", f"{size / 2**20:.0f} MiB")
        for name, size in sorted(ours.items())
        if name.startswith(f"{namespace}/") and size
    ]
    figures.append(
        Figure(
            "idle memory of the platform's pods beside them",
            f"{platform_pods / 2**20:.0f} MiB",
            "XWiki and MySQL",
            f"{platform_pods / wiki:.2f}" if wiki else "",
        )
    )
    return figures


def _median(work: Callable[[], object]) -> float:
    """Seconds of one call: the median of RUNS, after one that warms the caches."""
    work()
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _kept(only: Sequence[str]) -> dict[str, list[Figure]]:
    """The figures of the last run that this one does not measure."""
    if not only or not RESULTS.exists():
        return {}
    kept = json.loads(RESULTS.read_text())["figures"]
    return {name: [Figure(**item) for item in items] for name, items in kept.items()}


def _write(figures: dict[str, list[Figure]]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    revision = proc.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=repo.ROOT).out.strip()
    document = {
        "commit": revision,
        "machine": _machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "figures": {name: [asdict(item) for item in items] for name, items in figures.items()},
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    PAGE.write_text(page(document))


def page(document: Mapping[str, object]) -> str:
    """docs/benchmarks.md out of the results file."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` from `docs/results/bench.json`; do not edit. No test depends on",
        "these figures. A peer's figure that was not measured in the same run is a reference only.",
        "",
        f"Commit {document['commit']}, {document['date']}, on {document['machine']}.",
        "",
        "| figure | ours | against | ratio | goal |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = document["figures"]
    for items in groups.values() if isinstance(groups, dict) else ():
        for item in items:
            cells = [item[key] for key in ("name", "ours", "peer", "ratio", "goal")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = f"{len(models)} x {models[0].split(':')[1].strip()}" if models else cpu
    return f"{cpu}, {platform.system()} {platform.release().split('-')[0]}"
