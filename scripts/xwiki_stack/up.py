"""`make up`: from nothing, or from whatever is there, to a wiki that serves a real page.

Every step looks first and says when there was nothing to do, so that a second run converges and
an interrupted one goes on where it stopped.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests

from xwiki_stack import (
    cluster,
    credentials,
    expand,
    generate,
    intent,
    portforward,
    proc,
    readiness,
    release,
    render,
    repo,
    status,
    steps,
)
from xwiki_stack.errors import DriftError, RefusedError, UndecidedError, UnhealthyError
from xwiki_stack.kube import Kube
from xwiki_stack.readiness import Ref

CLUSTER = "xwiki-stack"
"""The kind cluster of `make up`."""

FIRST_START = 900.0
"""Seconds that a first start may take: XWiki creates and migrates its schema (reference values of
its operators go up to 15 minutes)."""

PAGE = "/bin/view/Main/WebHome"
"""The page that `bootstrap` creates and that proves that wiki, database and URL work together."""

Emit = Callable[[str], None]
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Up:
    """What `up` made or found: where the wiki is, what runs, and how long each step took."""

    url: str
    state: status.Report
    done: list[steps.Done]
    text: str


@dataclass(frozen=True)
class Place:
    """Where one environment's release lives."""

    env: str
    cluster: str
    namespace: str

    @property
    def kubeconfig(self) -> Path:
        """The cluster's kubeconfig. Raises UnhealthyError where there is no such cluster."""
        path = cluster.kubeconfig(self.cluster)
        if not path.is_file():
            raise UnhealthyError(
                f"there is no cluster {self.cluster} on this machine", next="`make up` makes it"
            )
        return path

    @property
    def kube(self) -> Kube:
        """Its API server."""
        return Kube(self.kubeconfig)

    @property
    def release(self) -> release.Release:
        """The Helm release of the environment."""
        return release.Release(cluster.tools().helm, self.kubeconfig, self.namespace)

    @property
    def workloads(self) -> list[Ref]:
        """What must be ready before the wiki can serve, in the order of dependence."""
        name = render.RELEASE
        return [
            Ref("StatefulSet", f"{name}-mysql", self.namespace),
            Ref("Deployment", f"{name}-xwiki", self.namespace),
        ]


def up(env: str, port: int, cluster_name: str, *, emit: Emit, ask: Ask) -> Up:
    """Bring an environment up on a kind cluster.

    Raises the StackError of whatever stands in the way: UndecidedError or RefusedError for an
    environment that does not belong on kind, DriftError for stale values, MachineError for this
    machine, UnhealthyError for what does not come up.
    """
    place = _place(env, cluster_name)
    _refuse_drift(env)
    forward = portforward.Forward(
        cluster_name, place.namespace, f"{render.RELEASE}-xwiki", local_port=port
    )
    if not proc.alive(forward.pid_file):
        portforward.refuse_taken(port)
    install_system_packages(emit, ask)
    wanted = cluster.Config(name=cluster_name, nodes=intent.load_cluster_of(env).nodes)
    plan = cluster.prepare(wanted)
    last = plan[-1].name
    plan += [
        steps.Step("namespace", "Namespace and Secrets", lambda _log: _secrets(place), (last,)),
        steps.Step("chart", "Chart", lambda log: _chart(place, log), ("namespace",)),
        steps.Step("database", "MySQL", lambda log: _ready(place, 0, log), ("chart",)),
        steps.Step("wiki", "XWiki", lambda log: _ready(place, 1, log), ("database",)),
        steps.Step("bootstrap", "First page and admin", lambda log: _job(place, log), ("wiki",)),
        steps.Step("url", "Local URL", lambda _log: _forward(forward), ("bootstrap",)),
        steps.Step("page", "A real page", lambda log: _page(forward.url, log), ("url",)),
    ]
    done = steps.execute(plan, emit)
    report = status.diagnose(place.kube, place.namespace, render.RELEASE)
    return Up(forward.url, report, done, _summary(place, forward.url, report, done))


def down(cluster_name: str) -> str:
    """Stop the port-forwards and the cluster's nodes; pages stay."""
    ended = portforward.stop(cluster_name)
    stopped = cluster.stop(cluster_name)
    kept = f"cluster {cluster_name} is stopped, its pages are kept; `make up` starts it again"
    none = f"cluster {cluster_name} does not run; nothing to do"
    return (kept if stopped else none) + (f" ({ended} port-forward ended)" if ended else "")


def delete(cluster_name: str) -> str:
    """Delete the cluster with all its data. Raises RefusedError when it is not ours."""
    portforward.stop(cluster_name)
    deleted = cluster.delete(cluster_name)
    return f"cluster {cluster_name} " + ("is deleted" if deleted else "does not exist")


def state(env: str, cluster_name: str) -> status.Report:
    """What runs in an environment's namespace, and what is wrong."""
    place = _place(env, cluster_name)
    return status.diagnose(place.kube, place.namespace, render.RELEASE)


def state_text(report: status.Report, cluster_name: str) -> str:
    """A report as a person reads it: the verdict first."""
    verdict = "healthy" if report.healthy else "NOT healthy"
    lines = [f"{report.namespace}/{report.release}: {verdict}"]
    lines += [f"  {name}: {words}" for name, words in report.workloads]
    lines += [f"  image: {image}" for image in report.images]
    ports = portforward.running(cluster_name)
    lines += [f"  URL: http://{portforward.ADDRESS}:{port}" for port in ports]
    lines += [f"wrong: {finding}" for finding in report.findings]
    return "\n".join(lines)


def password(env: str, cluster_name: str) -> str:
    """The admin's password in clear text. Raises UnhealthyError when there is none yet."""
    place = _place(env, cluster_name)
    value = credentials.read(place.kube, place.namespace, render.RELEASE, "xwiki", "admin-password")
    if value is None:
        raise UnhealthyError("there is no admin password yet", next="`make up` makes one")
    return value


def become_kubectl(env: str, cluster_name: str, words: Sequence[str]) -> NoReturn:
    """Replace this process by kubectl, pointed at the environment's namespace."""
    place = _place(env, cluster_name)
    kubectl = str(cluster.tools().kubectl)
    where = ["--kubeconfig", str(place.kubeconfig), "-n", place.namespace]
    os.execv(kubectl, [kubectl, *where, *words])  # noqa: S606 - no shell is wanted


def grow(env: str, cluster_name: str, *, recreate: bool) -> str:
    """`expand` on an environment's MySQL."""
    place = _place(env, cluster_name)
    name = f"{render.RELEASE}-mysql"
    action = expand.recreate if recreate else expand.expand
    return action(place.kube, place.namespace, name)


def install_system_packages(emit: Emit, ask: Ask) -> None:
    """Install what the bed needs from the system, after naming it and asking.

    Raises RefusedError when the answer is no.
    """
    missing = cluster.system_packages()
    if not missing:
        return
    emit("About to install with apt-get: " + " ".join(missing))
    if not ask("Go on?"):
        raise RefusedError("nothing was installed", next="answer y, or set YES=1")
    step = steps.Step("system-packages", "System packages", cluster.install_packages)
    steps.execute([step], emit)


def _place(env: str, cluster_name: str) -> Place:
    environment = intent.load_environment(env)
    if environment.undecided:
        raise UndecidedError(
            f"{env} has open blocking decisions: {', '.join(environment.undecided)}",
            next=f"`xwiki-stack decisions --env {env}` tells who decides and what each changes",
        )
    if environment.purpose != "local":
        raise RefusedError(
            f"{env} belongs to cluster {environment.cluster}, not on a local kind cluster",
            next="Flux installs it there; locally use an environment whose purpose is `local`",
        )
    return Place(env, cluster_name, environment.namespace)


def _refuse_drift(env: str) -> None:
    if generate.drift([env]):
        raise DriftError(
            f"values/generated/{env} is not what the intent says",
            next="run `make generate` and look at the diff",
        )


def _secrets(place: Place) -> str:
    kube = place.kube
    labels = {"app.kubernetes.io/part-of": "xwiki-stack"}
    for mode in ("enforce", "warn", "audit"):
        labels[f"pod-security.kubernetes.io/{mode}"] = "restricted"
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": place.namespace, "labels": labels},
        }
    )
    touched = credentials.ensure(kube, place.namespace, render.RELEASE)
    return f"made {', '.join(touched)}" if touched else "nothing to do"


def _chart(place: Place, log: steps.Log) -> str:
    return place.release.install(values(place.env, place.cluster), log.path)


def values(env: str, cluster_name: str) -> list[render.Values]:
    """The generated values of an environment, and the images of the bed where it has its own."""
    generated = repo.ROOT / "values" / "generated" / env / "xwiki-stack.yaml"
    overrides = cluster.image_values(cluster_name)
    return [generated, overrides] if overrides else [generated]


def _ready(place: Place, number: int, log: steps.Log) -> str:
    ref, kube = place.workloads[number], place.kube
    if not readiness.unready(kube.get(ref.kind, ref.name, ref.namespace)):
        return "nothing to do"
    _wait(place, [ref], log)
    return "ready"


def _job(place: Place, log: steps.Log) -> str:
    labels = f"app.kubernetes.io/instance={render.RELEASE}"
    jobs = place.kube.every("Job", place.namespace, labels)
    pending = [job for job in jobs if readiness.unready(job)]
    if not pending:
        return "nothing to do"
    _wait(place, [Ref("Job", job["metadata"]["name"], place.namespace) for job in pending], log)
    return "made"


def _wait(place: Place, refs: list[Ref], log: steps.Log) -> None:
    def explain() -> str:
        return status.diagnose(place.kube, place.namespace, render.RELEASE).cause

    readiness.wait_ready(place.kube, refs, seconds=FIRST_START, say=log.say, explain=explain)


def _forward(forward: portforward.Forward) -> str:
    tools = cluster.tools()
    return portforward.start(
        forward, tools.kubectl, cluster.kubeconfig(forward.cluster), cluster.environment()
    )


def _page(url: str, log: steps.Log) -> str:
    """Fetch the bootstrap page until it is a page: not a 202, a wizard or an error."""
    deadline = time.monotonic() + 120
    answer = "no answer"
    while time.monotonic() < deadline:
        try:
            response = requests.get(url + PAGE, timeout=30, allow_redirects=False)
            answer = f"HTTP {response.status_code}"
            if response.status_code == requests.codes.ok:
                return f"{len(response.content)} bytes of {PAGE}"
        except requests.RequestException as error:
            answer = type(error).__name__
        log.say(answer)
        time.sleep(1)
    raise UnhealthyError(
        f"{url}{PAGE} does not serve a page: {answer}",
        next="`xwiki-stack status` explains what is wrong",
    )


def _summary(place: Place, url: str, report: status.Report, done: list[steps.Done]) -> str:
    slow = sorted(done, key=lambda item: item.seconds, reverse=True)[:5]
    lines = [
        "",
        f"The wiki answers at {url}{PAGE}",
        "  admin: user Admin, its password is printed by `.venv/bin/xwiki-stack password`",
        "What runs:",
        *[f"  {cluster.describe_image(image)}" for image in report.images],
        f"  Kubernetes {cluster.describe(place.cluster)}",
        f"How long it took: {steps.clock(sum(item.seconds for item in done))} of work, most in "
        + ", ".join(f"{item.title} {steps.clock(item.seconds)}" for item in slow),
        "Next:",
        "  .venv/bin/xwiki-stack status            what runs, and what is wrong",
        "  .venv/bin/xwiki-stack kubectl get pods  look for yourself",
        "  make down                               stop it; the pages stay",
    ]
    return "\n".join(lines)
