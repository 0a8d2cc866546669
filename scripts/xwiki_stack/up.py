"""`make up`: from nothing, or from whatever is there, to a wiki that serves a real page.

Every step looks first and says when there was nothing to do, so that a second run converges and
an interrupted one goes on where it stopped.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import requests

from xwiki_stack import (
    cluster,
    credentials,
    expand,
    generate,
    gitops,
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
from xwiki_stack.cluster import kind
from xwiki_stack.errors import (
    DriftError,
    IntentError,
    RefusedError,
    UndecidedError,
    UnhealthyError,
)
from xwiki_stack.kube import Kube, Manifest, restricted_namespace
from xwiki_stack.readiness import Ref

CLUSTER = "xwiki-stack"
"""The kind cluster of `make up`."""

FIRST_START = 900.0
"""Seconds that a first start may take: XWiki creates and migrates its schema (reference values of
its operators go up to 15 minutes)."""

PAGE_SECONDS = 120.0

PAGE = "/bin/view/Main/WebHome"
"""The page that `bootstrap` creates and that proves that wiki, database and URL work together."""

WIZARD = re.compile(r'<title>[^<]*Distribution Wizard|id="distributionWizard"', re.IGNORECASE)
"""How XWiki's wizard shows itself where a page was asked for: by its title (also the stand-in's)
or, in newer releases, by the element that its script fills."""

OURS = f"app.kubernetes.io/instance={render.RELEASE}"
"""Label selector of everything in the release."""

BOOTSTRAP = re.compile(rf"{render.RELEASE}-xwiki-bootstrap-[0-9a-f]{{8}}")
"""The name of the Job that makes first page and admin; the hash is that of its spec."""

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
class Elsewhere:
    """Where to look instead: in another namespace, or on a cluster that is not the local one."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None


HERE = Elsewhere()


@dataclass(frozen=True)
class Place:
    """Where one environment's release lives."""

    env: str
    cluster: str
    namespace: str
    elsewhere: Elsewhere = HERE

    @property
    def kubeconfig(self) -> Path:
        """The cluster's kubeconfig. Raises UnhealthyError where there is no such cluster."""
        if self.elsewhere.kubeconfig:
            return self.elsewhere.kubeconfig
        path = cluster.kubeconfig(self.cluster)
        if not path.is_file():
            raise UnhealthyError(
                f"there is no cluster {self.cluster} on this machine", next="`make up` makes it"
            )
        return path

    @property
    def kube(self) -> Kube:
        """Its API server."""
        return Kube(self.kubeconfig, self.elsewhere.context)

    @property
    def ways(self) -> status.Ways:
        """How the reader of its diagnosis gets at it."""
        file, context = self.elsewhere.kubeconfig, self.elsewhere.context
        within = f" -n {self.namespace}"
        if file:
            where = f"--kubeconfig {file}" + (f" --context {context}" if context else "")
            brought = f"{gitops.SOURCE}-{self.env}"
            return status.Ways(
                kubectl=f"kubectl {where}{within}",
                expand=f"xwiki-stack expand --env {self.env} {where}",
                install=f"`flux reconcile helmrelease {brought} -n {gitops.HOME} --force`",
                delivered=brought,
            )
        if self.elsewhere.namespace:
            return replace(status.LOCAL, kubectl=f"{status.LOCAL.kubectl}{within}")
        return status.LOCAL

    def diagnose(self) -> status.Report:
        """What runs there, and what is wrong."""
        return status.diagnose(self.kube, self.namespace, render.RELEASE, self.ways)

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
    kind.refuse_foreign(cluster_name)
    install_system_packages(emit, ask, cluster_name)
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
    report = place.diagnose()
    return Up(forward.url, report, done, _summary(place, forward.url, report, done))


def down(cluster_name: str) -> str:
    """Stop the port-forwards and the cluster's nodes, and our engine if it has no more to do.

    Pages stay.
    """
    ended = portforward.stop(cluster_name)
    stopped = cluster.stop(cluster_name)
    kept = f"cluster {cluster_name} is stopped, its pages are kept; `make up` starts it again"
    none = f"cluster {cluster_name} does not run; nothing to do"
    words = (kept if stopped else none) + (f" ({ended} port-forward ended)" if ended else "")
    return words + _stop_idle_engine()


def delete(cluster_name: str) -> str:
    """Delete the cluster with all its data. Raises RefusedError when it is not ours."""
    portforward.stop(cluster_name)
    deleted = cluster.delete(cluster_name)
    words = f"cluster {cluster_name} " + ("is deleted" if deleted else "does not exist")
    return words + _stop_idle_engine()


def _stop_idle_engine() -> str:
    """What was done, as more words; '' where the engine is not ours, or has something to do."""
    stopped = cluster.stop_engine_if_idle()
    return "; nothing else runs on the container engine, it is stopped too" if stopped else ""


def state(env: str, cluster_name: str, elsewhere: Elsewhere = HERE) -> status.Report:
    """What runs in an environment's namespace, and what is wrong."""
    return _place(env, cluster_name, elsewhere).diagnose()


def state_text(report: status.Report, cluster_name: str, elsewhere: Elsewhere = HERE) -> str:
    """A report as a person reads it: the verdict first."""
    verdict = "healthy" if report.healthy else "NOT healthy"
    lines = [f"{report.namespace}/{report.release}: {verdict}"]
    lines += [f"  {name}: {words}" for name, words in report.workloads]
    lines += [f"  image: {image}" for image in report.images]
    ports = portforward.running(cluster_name) if elsewhere == HERE else []
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


def become_kubectl(
    env: str, cluster_name: str, words: Sequence[str], elsewhere: Elsewhere = HERE
) -> NoReturn:
    """Replace this process by kubectl, pointed at the environment's namespace."""
    place = _place(env, cluster_name, elsewhere)
    where = ["--kubeconfig", str(place.kubeconfig), "-n", place.namespace]
    proc.become([cluster.tools().kubectl, *where, *words])


def grow(env: str, cluster_name: str, elsewhere: Elsewhere = HERE, *, recreate: bool) -> str:
    """`expand` on an environment's MySQL."""
    place = _place(env, cluster_name, elsewhere)
    name = f"{render.RELEASE}-mysql"
    action = expand.recreate if recreate else expand.expand
    return action(place.kube, place.namespace, name)


def install_system_packages(
    emit: Emit, ask: Ask, cluster_name: str = "", *, peers: bool = False
) -> None:
    """Install what a cluster's bed needs from the system, after naming it and asking.

    peers: also what benches compare with. Raises RefusedError when the answer is no.
    """
    missing = cluster.system_packages(cluster_name, peers=peers)
    if not missing:
        return
    emit(f"Images are {cluster.describe_bed(cluster_name)}")
    emit("About to install with apt-get: " + " ".join(missing))
    if not ask("Go on?"):
        raise RefusedError("nothing was installed", next="answer y, or set YES=1")
    install = partial(cluster.install_packages, name=cluster_name, peers=peers)
    steps.execute([steps.Step("system-packages", "System packages", install)], emit)


def _place(env: str, cluster_name: str, elsewhere: Elsewhere = HERE) -> Place:
    if elsewhere.context and not elsewhere.kubeconfig:
        raise IntentError("--context names a context of a file", next="name it: --kubeconfig FILE")
    environment = intent.load_environment(env)
    if environment.undecided:
        raise UndecidedError(
            f"{env} has open blocking decisions: {', '.join(environment.undecided)}",
            next=f"`xwiki-stack decisions --env {env}` tells who decides and what each changes",
        )
    if environment.purpose != "local" and not elsewhere.kubeconfig:
        raise RefusedError(
            f"{env} belongs to cluster {environment.cluster}, not on a local kind cluster",
            next="Flux installs it there, `status` and `expand` reach it with --kubeconfig FILE "
            "[--context NAME]; locally use an environment whose purpose is `local`",
        )
    return Place(env, cluster_name, elsewhere.namespace or environment.namespace, elsewhere)


def _refuse_drift(env: str) -> None:
    if generate.drift([env]):
        raise DriftError(
            f"values/generated/{env} is not what the intent says",
            next="run `make generate` and look at the diff",
        )


def namespace(name: str) -> Manifest:
    """The namespace of a wiki on the local cluster."""
    return restricted_namespace(name, {"app.kubernetes.io/part-of": "xwiki-stack"})


def _secrets(place: Place) -> str:
    kube = place.kube
    kube.apply(namespace(place.namespace))
    touched = credentials.ensure(kube, place.namespace, render.RELEASE)
    return f"made {', '.join(touched)}" if touched else "nothing to do"


def _chart(place: Place, log: steps.Log) -> str:
    gone = _drop_failed_bootstrap(place)
    outcome = place.release.install(values(place.env, place.cluster), log.path)
    return ", ".join(
        [outcome, *(f"{ref.kind} {ref.name} had failed and is made anew" for ref in gone)]
    )


def _drop_failed_bootstrap(place: Place) -> list[Ref]:
    """Delete a bootstrap Job that gave up, so that the chart's upgrade makes it anew.

    Its name follows from its spec: as long as it is there, an unchanged chart finds it done with.
    """
    kube = place.kube
    failed = [
        Ref("Job", job["metadata"]["name"], place.namespace)
        for job in kube.every("Job", place.namespace, OURS)
        if BOOTSTRAP.fullmatch(job["metadata"]["name"])
        and readiness.unready(job).startswith("failed")
    ]
    for ref in failed:
        kube.delete(ref.kind, ref.name, ref.namespace, orphan=False)
    readiness.wait_gone(kube, failed, seconds=60)
    return failed


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
    jobs = place.kube.every("Job", place.namespace, OURS)
    pending = [job for job in jobs if readiness.unready(job)]
    if not pending:
        return "nothing to do"
    _wait(place, [Ref("Job", job["metadata"]["name"], place.namespace) for job in pending], log)
    return "made"


def _wait(place: Place, refs: list[Ref], log: steps.Log) -> None:
    readiness.wait_ready(
        place.kube,
        refs,
        seconds=FIRST_START,
        say=log.say,
        explain=lambda: place.diagnose().cause,
    )


def _forward(forward: portforward.Forward) -> str:
    tools = cluster.tools()
    return portforward.start(
        forward, tools.kubectl, cluster.kubeconfig(forward.cluster), cluster.environment()
    )


def _page(url: str, log: steps.Log) -> str:
    """Fetch the bootstrap page until it is a page: not a 202, a wizard or an error."""
    deadline = time.monotonic() + PAGE_SECONDS
    answer = "no answer"
    while time.monotonic() < deadline:
        try:
            # Short, because nothing interrupts it; what XWiki has begun to render stays warm.
            response = requests.get(url + PAGE, timeout=10, allow_redirects=False)
            answer = f"HTTP {response.status_code}"
            if WIZARD.search(response.text):
                answer = "the Distribution Wizard in place of the page"
            elif response.status_code == requests.codes.ok:
                return f"{len(response.content)} bytes of {PAGE}"
        except requests.RequestException as error:
            answer = type(error).__name__
        log.say(answer)
        proc.pause(1)
    raise UnhealthyError(
        f"{url}{PAGE} does not serve a page: {answer}",
        next="`xwiki-stack status` explains what is wrong",
    )


def _summary(place: Place, url: str, report: status.Report, done: list[steps.Done]) -> str:
    lines = [
        "",
        f"The wiki answers at {url}{PAGE}",
        "  admin: user Admin, its password is printed by `.venv/bin/xwiki-stack password`",
        "What runs:",
        *[f"  {cluster.describe_image(image)}" for image in report.images],
        f"  Kubernetes {cluster.describe(place.cluster)}",
        f"How long it took: {_times(done)}",
        "Next:",
        "  .venv/bin/xwiki-stack status            what runs, and what is wrong",
        "  .venv/bin/xwiki-stack kubectl get pods  look for yourself",
        "  make down                               stop it; the pages stay",
    ]
    return "\n".join(lines)


def _times(done: Sequence[steps.Done]) -> str:
    """How long each step took; those that had nothing to do are summed."""
    idle = [item for item in done if item.outcome.startswith("nothing to do")]
    words = [f"{item.title} {steps.clock(item.seconds)}" for item in done if item not in idle]
    if idle:
        seconds = steps.clock(sum(item.seconds for item in idle))
        words.append(f"{len(idle)} steps with nothing to do {seconds}")
    return f"{steps.clock(sum(item.seconds for item in done))} of work: {', '.join(words)}"
