"""`make demo`: a page is written, saved, destroyed with its namespace and volumes, and comes back.

In a namespace of its own beside whatever the local cluster holds, with a bucket that is a stand-in
(cluster/objectstore.py), and restored by the very text of docs/runbooks/restore-site.md.
"""

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xwiki_stack import (
    cluster,
    intent,
    portforward,
    proc,
    readiness,
    release,
    render,
    repo,
    runbook,
    steps,
    up,
)
from xwiki_stack import credentials as passwords
from xwiki_stack.backup import config
from xwiki_stack.backup.web import NAMESPACE as XML
from xwiki_stack.backup.web import Web, page_path
from xwiki_stack.cluster.objectstore import ObjectStore, node_address
from xwiki_stack.desk import BACKUPS, Desk
from xwiki_stack.errors import DamagedError, RefusedError, StackError, UnhealthyError
from xwiki_stack.kube import Kube, restricted_namespace
from xwiki_stack.readiness import Ref
from xwiki_stack.steps import Log, Step

NAMESPACE = "xwiki-stack-demo"
LABEL = {"app.kubernetes.io/part-of": "xwiki-stack-demo"}
"""Only a namespace that carries it is ever deleted here."""

PAGE, ATTACHMENT = "Demo.WebHome", "proof.bin"

SECONDS = 300.0
"""For anything that is waited for: a database's first start on two busy cores is the longest."""

LIGHT = {
    component: {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    for component in ("xwiki", "mysql")
}
"""Requests that fit beside the user's own wiki; limits stay those of the environment."""

Emit = Callable[[str], None]
Ask = Callable[[str], bool]


def namespace() -> dict[str, Any]:
    """The demo's namespace."""
    return restricted_namespace(NAMESPACE, LABEL)


def demo(cluster_name: str, port: int, *, emit: Emit, ask: Ask) -> str:
    """Show it; give the last words. Raises the StackError of what went wrong; cleans up anyway."""
    up.install_system_packages(emit, ask, cluster_name)
    nodes = intent.load_cluster_of("local").nodes
    steps.execute(cluster.prepare(cluster.Config(cluster_name, nodes, extras=True)), emit)
    folder = repo.state(cluster_name) / "demo"
    story = Story(cluster_name, port, folder)
    story.sweep()
    try:
        with story.furnished():
            done = steps.execute(story.plan(), emit)
    finally:
        with contextlib.suppress(proc.Interrupted):
            story.sweep()
    seconds = steps.clock(sum(item.seconds for item in done))
    return f"{story.verdict}\nIt took {seconds}; the namespace {NAMESPACE} and its bucket are gone."


@dataclass
class Story:
    """The demo on one cluster: what it made on the way."""

    cluster: str
    port: int
    folder: Path
    text: str = field(default_factory=lambda: f"written at random: {secrets.token_hex(8)}")
    content: bytes = field(default_factory=lambda: secrets.token_bytes(256 * 1024))
    verdict: str = ""

    def __post_init__(self) -> None:
        self.kubeconfig = cluster.kubeconfig(self.cluster)
        self.kube = Kube(self.kubeconfig)
        self.forward = portforward.Forward(
            self.cluster, NAMESPACE, f"{render.RELEASE}-xwiki", self.port
        )

    @contextlib.contextmanager
    def furnished(self) -> Iterator[None]:
        """With a bucket and a desk."""
        store = ObjectStore(self.folder / "store", address=node_address())
        store.start()
        try:
            self.desk = Desk(self.folder / "desk", store, "demo", NAMESPACE)
            yield
        finally:
            store.stop()

    def plan(self) -> list[Step]:
        """The story, one thing after the other."""
        told: list[tuple[str, str, Callable[[Log], str]]] = [
            ("wiki", "A wiki", self._install),
            ("write", "A page with an attachment", self._write),
            ("set", "A set of backups", partial(self._job, "site")),
            ("proof", "The set proven intact", partial(self._job, "verify")),
            ("destroy", "Namespace and volumes destroyed", self._destroy),
            ("restore", f"Restored by {repo.relative(self._page)}", self._restore),
            ("look", "The same page and attachment", self._look),
        ]
        plan: list[Step] = []
        for name, title, work in told:
            needs = (plan[-1].name,) if plan else ()
            plan.append(Step(f"demo-{name}", title, work, needs))
        return plan

    def sweep(self) -> None:
        """Take away what a demo left: this one, or one that was interrupted."""
        proc.end(self.forward.pid_file)
        ObjectStore(self.folder / "store").stop()
        destroy(self.kube, self.kubeconfig, NAMESPACE, LABEL)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _page(self) -> Path:
        return runbook.FOLDER / "restore-site.md"

    @property
    def _values(self) -> list[render.Values]:
        return [*up.values("local", self.cluster), LIGHT, self.desk.values()]

    def _install(self, log: Log) -> str:
        self.kube.apply(namespace())
        self.desk.furnish(self.kube)
        helm = cluster.tools().helm
        release.Release(helm, self.kubeconfig, NAMESPACE).install(self._values, log.path)
        self._ready(log)
        return f"in namespace {NAMESPACE}"

    def _ready(self, log: Log) -> None:
        refs = [
            Ref("StatefulSet", f"{render.RELEASE}-mysql", NAMESPACE),
            Ref("Deployment", f"{render.RELEASE}-xwiki", NAMESPACE),
        ]
        readiness.wait_ready(self.kube, refs, seconds=SECONDS, say=log.say)

    def _web(self) -> Web:
        """The wiki through a port-forward that is made anew: its pod is another one."""
        portforward.start(
            self.forward, cluster.tools().kubectl, self.kubeconfig, cluster.environment()
        )
        password = passwords.read(
            self.kube, NAMESPACE, render.RELEASE, "xwiki", "superadmin-password"
        )
        return Web(config.load(self.desk.configure(self.forward.url, password or "")))

    def _write(self, _log: Log) -> str:
        web = self._web()
        web.put_page(PAGE, "Demo", self.text)
        web.put_attachment(PAGE, ATTACHMENT, self.content)
        return f"{self.forward.url}{page_path(PAGE)} says {self.text!r}"

    def _job(self, role: str, log: Log) -> str:
        """Run a CronJob's job now; give the last line of its log."""
        name = f"{role}-{secrets.token_hex(3)}"
        self._kubectl("create", "job", f"--from=cronjob/{BACKUPS}-{role}", name)
        said = ""
        try:
            readiness.wait_ready(
                self.kube, [Ref("Job", name, NAMESPACE)], seconds=SECONDS, say=log.say
            )
        except UnhealthyError as failed:
            raise StackError(f"{failed.what}: {self._log_of(name)[-1:]}") from failed
        said = "".join(self._log_of(name)[-1:])
        return said.strip()

    def _log_of(self, job: str) -> list[str]:
        said = self._kubectl("logs", f"job/{job}", check=False)
        return (said.out + said.err).splitlines()

    def _destroy(self, _log: Log) -> str:
        destroy(self.kube, self.kubeconfig, NAMESPACE, LABEL)
        return "nothing of it is left but the bucket and the keys"

    def _restore(self, log: Log) -> str:
        env = {
            **cluster.environment(self.cluster),
            **self.desk.variables(self._values, page_path(PAGE)),
        }
        page = runbook.Runbook(self._page, with_command(env))
        # The runbook makes the namespace as an operator does; ours must know it for its own.
        for block in page.steps:
            log.say(block.heading)
            page.run(block)
            if block.heading.startswith("3."):
                self._kubectl("label", "namespace", NAMESPACE, "--overwrite",
                              *[f"{key}={value}" for key, value in LABEL.items()])  # fmt: skip
        return f"{len(page.steps)} blocks, as they stand there"

    def _look(self, _log: Log) -> str:
        web = self._web()
        page = web.page(PAGE)
        found = page.find(f"{XML}content") if page is not None else None
        text = found.text if found is not None else None
        served = web.attachment(PAGE, ATTACHMENT).content
        before, after = (hashlib.sha256(data).hexdigest() for data in (self.content, served))
        if text != self.text or before != after:
            raise DamagedError(
                f"came back as {text!r} with an attachment of {after[:16]}, and was"
                f" {self.text!r} with {before[:16]}",
                where=f"{self.forward.url}{page_path(PAGE)}",
            )
        self.verdict = (
            f"The page came back: {text!r}\n"
            f"{ATTACHMENT}: sha256 {before} before, {after} after: identical"
        )
        return "identical"

    def _kubectl(self, *words: str, check: bool = True) -> proc.Result:
        return kubectl(self.kubeconfig, "--namespace", NAMESPACE, *words, check=check)


def with_command(env: dict[str, str]) -> dict[str, str]:
    """An environment in which `xwiki-stack` is this one."""
    return {**env, "PATH": f"{repo.command().parent}:{env['PATH']}"}


def kubectl(kubeconfig: Path, *words: str, check: bool = True) -> proc.Result:
    """kubectl on a cluster."""
    argv: list[str | Path] = [cluster.tools().kubectl, "--kubeconfig", kubeconfig, *words]
    return proc.run(argv, check=check, timeout=SECONDS)


def destroy(kube: Kube, kubeconfig: Path, namespace: str, labels: dict[str, str]) -> None:
    """Delete a namespace with all that is in it, and wait until its volumes are gone too.

    labels: what it must carry. Raises RefusedError for another one, UnhealthyError when it stays.
    """
    found: Any = kube.get("Namespace", namespace)
    if found:
        carried = found["metadata"].get("labels", {})
        if not labels.items() <= carried.items():
            raise RefusedError(
                f"the namespace {namespace} is not ours: it lacks"
                f" {', '.join(f'{key}={value}' for key, value in labels.items())}",
                next="look what is in it; delete it yourself if nobody misses it",
            )
        kubectl(kubeconfig, "delete", "namespace", namespace, "--wait=true", "--ignore-not-found")
    volumes = [
        Ref("PersistentVolume", item["metadata"]["name"], "")
        for item in kube.every("PersistentVolume")
        if item["spec"].get("claimRef", {}).get("namespace") == namespace
    ]
    readiness.wait_gone(kube, volumes, seconds=SECONDS)
