"""The end-to-end bed: one kind cluster for the session, made or reused, and a wiki on it.

Fixtures install, tests observe. No test depends on another's order: each leaves the shared wiki
healthy, or works in a namespace of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import (
    cluster,
    credentials,
    portforward,
    proc,
    readiness,
    release,
    render,
    repo,
    steps,
    suite,
    up,
)
from xwiki_stack.cluster import artefacts
from xwiki_stack.kube import Kube, Manifest

WIKI_PORT = 19000 + int(repo.checkout_key(), 16) % 1000
"""Of the shared wiki: two checkouts may run their stories at once."""


@dataclass(frozen=True)
class Bed:
    """The cluster of the session and the programs that fit it."""

    name: str
    kubeconfig: Path
    kube: Kube

    def kubectl(self, *words: str, check: bool = True, stdin: str | None = None) -> proc.Result:
        """kubectl on this cluster."""
        argv: list[str | Path] = [cluster.tools().kubectl, "--kubeconfig", self.kubeconfig, *words]
        return proc.run(argv, check=check, stdin=stdin, timeout=180)

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The xwiki-stack command as a user starts it, on this cluster."""
        program = Path(sys.executable).parent / "xwiki-stack"
        return subprocess.run(
            [program, *words],
            env={**os.environ, "XWIKI_STACK_CLUSTER": self.name, "YES": "1"},
            capture_output=True,
            text=True,
            # Longer than `up` itself waits: its own diagnosis is what a failure shall show.
            timeout=up.FIRST_START + 300,
            check=False,
        )

    def signal(self, pod: Manifest, name: str) -> None:
        """Send a signal to the first process of a pod's first container.

        From the node: the process is number 1 in its container, which takes neither SIGKILL nor
        SIGSTOP from inside.
        """
        container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        pid = f"$(ctr -n k8s.io tasks ls | awk '$1==\"{container}\" {{print $2}}')"
        script = f"kill -{name} {pid}"
        cluster.on_node(self.name, pod["spec"]["nodeName"], ["sh", "-c", script])

    def release(self, namespace: str, name: str = render.RELEASE) -> release.Release:
        """A release on this cluster."""
        return release.Release(cluster.tools().helm, self.kubeconfig, namespace, name)

    def pods(self, namespace: str, *components: str) -> list[Manifest]:
        """The pods of components, but for Jobs' and those on their way out."""
        labels = f"app.kubernetes.io/component in ({','.join(components)})"
        return [
            pod
            for pod in self.kube.every("Pod", namespace, labels)
            if "deletionTimestamp" not in pod["metadata"] and not of_job(pod)
        ]

    def pod(self, namespace: str, component: str) -> Manifest:
        """The one pod of a component. AssertionError while there is none, or are two."""
        found = self.pods(namespace, component)
        assert len(found) == 1, f"{len(found)} pods of {component}"
        return found[0]

    def uids(self, namespace: str) -> dict[str, str]:
        """Workload pods of a namespace by name; equal before and after means nothing restarted."""
        return {
            pod["metadata"]["name"]: life(pod) for pod in self.pods(namespace, "xwiki", "mysql")
        }


KINDS = {"mysql": "StatefulSet", "xwiki": "Deployment"}
"""What each component is."""


def settled(bed: Bed, namespace: str, *components: str) -> bool:
    """The rollouts of components, or of both, are over. AssertionError while they are not."""
    for component in components or KINDS:
        found = bed.kube.get(KINDS[component], f"{render.RELEASE}-{component}", namespace)
        assert readiness.unready(found) == "", component
    return True


def restarts(pod: Manifest) -> int:
    """How often a pod's containers were started again in place."""
    return sum(item["restartCount"] for item in pod["status"].get("containerStatuses", []))


def life(pod: Manifest) -> str:
    """Text that is the same as long as the pod is the same one and nothing in it restarted."""
    return f"{pod['metadata']['uid']} {restarts(pod)}"


def of_job(pod: Manifest) -> bool:
    """Whether a Job made the pod; one that lost its StatefulSet has no owner at all."""
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", ()))


@pytest.fixture(scope="session")
def bed() -> Bed:
    """The session's cluster, made if absent; `make test` deletes it when all workers are done."""
    steps.execute(cluster.prepare(suite.config()), print)
    os.environ.update(cluster.environment(suite.CLUSTER))
    kubeconfig = cluster.kubeconfig(suite.CLUSTER)
    return Bed(suite.CLUSTER, kubeconfig, Kube(kubeconfig))


@pytest.fixture(scope="session")
def kube_config(bed: Bed) -> str:
    """What pytest-helm-charts' `kube_cluster` connects to."""
    return str(bed.kubeconfig)


@pytest.fixture(scope="module", autouse=True)
def _connected(kube_cluster: object) -> None:
    """Every module reaches the cluster through pytest-helm-charts' `kube_cluster`."""


@pytest.fixture(scope="session")
def wiki(bed: Bed, enforcement: None) -> Iterator[Wiki]:
    """The shared wiki, brought up as a user does."""
    answer = bed.cli("up", "--port", str(WIKI_PORT))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    yield Wiki(
        bed.kube,
        up.state("local", bed.name).namespace,
        f"http://{portforward.ADDRESS}:{WIKI_PORT}",
        report=answer.stdout,
    )
    # Here, not with the cluster: other workers are done with that earlier.
    portforward.stop(suite.CLUSTER)


@pytest.fixture
def namespace(bed: Bed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace with Pod Security `restricted`, gone after the test."""
    name = request.node.originalname.replace("_", "-")[5:45].strip("-")
    make_namespace(bed, name)
    yield name
    bed.kubectl("delete", "namespace", name, "--wait=false")


def make_namespace(bed: Bed, name: str) -> None:
    """A namespace as the environments have them."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    bed.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
    )


@pytest.fixture
def secrets(bed: Bed, namespace: str) -> str:
    """The Secrets of both components in the test's own namespace; gives the namespace."""
    credentials.ensure(bed.kube, namespace, render.RELEASE)
    return namespace


@pytest.fixture(scope="session")
def values(bed: Bed) -> Callable[..., list[render.Values]]:
    """The values of the local environment on this bed, with a test's own on top."""
    # Asked once: a file that changes below images/ while tests run must not change them.
    common = up.values("local", bed.name)

    def layered(*own: dict[str, Any]) -> list[render.Values]:
        return [*common, *own]

    return layered


@pytest.fixture
def chart_copy(tmp_path: Path) -> Path:
    """The umbrella chart in a folder of its own, for a test that changes a template."""
    copy = tmp_path / "chart"
    copy.mkdir()
    for part in ("Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json", ".helmignore"):
        shutil.copy(repo.ROOT / part, copy / part)
    for folder in ("charts", "templates"):
        shutil.copytree(repo.ROOT / folder, copy / folder)
    return copy


LIGHT = {
    component: {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    for component in ("xwiki", "mysql")
}
"""For a release beside the shared wiki: two cores do not hold the requests of two environments."""


@pytest.fixture(scope="session")
def enforcement(
    bed: Bed, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """Proves, before anything relies on it, that a NetworkPolicy blocks and lets pass.

    Once in a run: the workers of pytest-xdist wait for the first one's proof.
    """
    from tests.e2e.enforcement import prove

    own = tmp_path_factory.getbasetemp()
    proven = (own.parent if hasattr(request.config, "workerinput") else own) / "proven"
    with artefacts.lock("enforcement"):
        if not proven.exists():
            prove(bed)
            proven.touch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker `e2e`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """On failure, add events and pods of the cluster to the report, and what Flux said there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    fixtures = getattr(item, "funcargs", {})
    flux = fixtures.get("flux")
    bed = flux.bed if flux else fixtures.get("bed")
    if report.failed and flux:
        report.sections.append(("Flux", flux.said()))
    if report.failed and isinstance(bed, Bed):
        events = bed.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False).out
        pods = bed.kubectl("get", "pods", "-A", "-o", "wide", check=False).out
        report.sections.append(("pods", pods))
        report.sections.append(("last events", "\n".join(events.splitlines()[-40:])))


__all__ = ["Bed", "Wiki", "eventually"]
