"""Flux on a cluster: its real controllers as programs of this machine, a real Git repository.

source-controller fetches over HTTP from Git's own `upload-pack`; whatever it would ask outside this
machine ends at a gate that refuses. docs/decisions/0027-flux-in-tests.md says what that proves.
"""

import contextlib
import gzip
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
import yaml

from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from xwiki_stack import cluster, gitops, proc, repo
from xwiki_stack.cluster import golang, machine, pins
from xwiki_stack.kube import Manifest

ADDRESS = "127.0.0.1"
BRANCH = "main"
PARTS = (
    ".helmignore",
    "Chart.lock",
    "Chart.yaml",
    "README.md",
    "charts",
    "flux",
    "templates",
    "values",
    "values.schema.json",
    "values.yaml",
)
"""What Flux takes of this checkout, and a page that it does not."""

AUTHOR = {
    f"GIT_{role}_{word}": said
    for role in ("AUTHOR", "COMMITTER")
    for word, said in (("NAME", "Tests"), ("EMAIL", "tests@example.org"))
} | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
"""Nobody's Git settings, so that a commit is the same on every machine."""


@dataclass(frozen=True)
class Repository:
    """A Git repository with one branch; files are named by their path in it."""

    folder: Path

    @classmethod
    def of_checkout(cls, folder: Path) -> "Repository":
        """One that holds this checkout's part of the tree, not committed yet."""
        folder.mkdir()
        for part in PARTS:
            here = repo.ROOT / part
            (shutil.copytree if here.is_dir() else shutil.copy)(here, folder / part)
        made = cls(folder)
        made._git("init", "--quiet", "--initial-branch", BRANCH)
        return made

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.folder / path).read_text()

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files, or remove those that are None."""
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def commit(self, message: str) -> str:
        """Commit all that differs; the commit's full name."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        return self._git("rev-parse", "HEAD")

    def _git(self, *words: str) -> str:
        return proc.run(["git", "-C", self.folder, *words], env=AUTHOR).out.strip()


class Server(ThreadingHTTPServer):
    """A server of this machine on a free port."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((ADDRESS, 0), handler)
        self.asked: list[str] = []
        """Of a gate: who was asked for."""
        self.folder = Path()
        """Of Git: the repository."""
        self.shelf: dict[str, tuple[str, bytes]] = {}
        """Of charts: type and content by path."""

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}"


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[Server]:
    """A server that answers as long as the block runs."""
    with Server(handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""

    def reply(self, code: int, kind: str, body: bytes, **headers: str) -> None:
        """Answer with a body."""
        self.send_response(code)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Git(Handler):
    """Git's smart HTTP protocol for reading: `git upload-pack` does the work."""

    def do_GET(self) -> None:
        """What refs there are."""
        if self.path.endswith("/info/refs?service=git-upload-pack"):
            said = b"001e# service=git-upload-pack\n0000" + self._pack("--advertise-refs")
            self.reply(200, "application/x-git-upload-pack-advertisement", said)
        else:
            self.reply(404, "text/plain", b"")

    def do_POST(self) -> None:
        """The objects that somebody lacks."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.reply(200, "application/x-git-upload-pack-result", self._pack(stdin=body))

    def _pack(self, *words: str, stdin: bytes = b"") -> bytes:
        argv = ["git", "upload-pack", "--stateless-rpc", *words, str(self.server.folder)]
        return subprocess.run(argv, input=stdin, capture_output=True, check=False).stdout


class Gate(Handler):
    """A proxy that lets nothing out, and notes who was asked for."""

    def do_CONNECT(self) -> None:
        """Somebody wants out."""
        self.server.asked.append(self.path)
        self.reply(403, "text/plain", b"nothing leaves this machine")

    do_GET = do_HEAD = do_POST = do_CONNECT  # noqa: N815 - the names that the library calls


@dataclass
class Controllers:
    """The three controllers of Flux that the tree needs, as Flux 2.9 has them.

    proxy: what they ask for everything that is not this machine. folder: their files and logs.
    Waits between tries are seconds where Flux takes half a minute; else they run as it starts them.
    """

    bed: Bed
    folder: Path
    proxy: str
    _health: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start all, and wait until they are ready."""
        storage = f"{ADDRESS}:{_free_port()}"
        own = {
            "source-controller": [
                f"--storage-path={self._made('storage')}",
                f"--storage-addr={storage}",
                f"--storage-adv-addr={storage}",
            ],
            "kustomize-controller": [],
            "helm-controller": ["--graceful-shutdown-timeout=1s"],
        }
        tools = cluster.tools()
        programs = {
            "source-controller": tools.source_controller,
            "kustomize-controller": tools.kustomize_controller,
            "helm-controller": tools.helm_controller,
        }
        for name, flags in own.items():
            self._health[name] = _free_port()
            common = [
                "--metrics-addr=0",
                f"--health-addr={ADDRESS}:{self._health[name]}",
                "--requeue-dependency=2s",
            ]
            proc.spawn(
                [programs[name], *common, *flags],
                log=self.folder / f"{name}.log",
                pid_file=self._pid(name),
                env={
                    "KUBECONFIG": str(self.bed.kubeconfig),
                    "RUNTIME_NAMESPACE": gitops.HOME,
                    "TMPDIR": str(self._made("tmp")),
                    "HOME": str(self._made("home")),
                    "HTTP_PROXY": self.proxy,
                    "HTTPS_PROXY": self.proxy,
                    "NO_PROXY": ADDRESS,
                },
            )
        for name in own:
            eventually(lambda name=name: self._answers(name), seconds=60, pause=0.2)  # type: ignore[misc]

    def said(self, lines: int = 20) -> str:
        """The last lines of each log."""
        texts = {path.stem: path.read_text() for path in sorted(self.folder.glob("*.log"))}
        return "\n".join(
            f"{name}: {line}" for name, text in texts.items() for line in text.splitlines()[-lines:]
        )

    def _answers(self, name: str) -> bool:
        assert proc.alive(self._pid(name)), f"{name} has ended:\n{self.said()}"
        url = f"http://{ADDRESS}:{self._health[name]}/readyz"
        return bool(requests.get(url, timeout=2).status_code == requests.codes.ok)

    def _pid(self, name: str) -> Path:
        return self.folder / f"{name}.pid"

    def _made(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass
class Flux:
    """A cluster that Flux keeps as a repository says."""

    bed: Bed
    repository: Repository
    git: Server
    gate: Server
    controllers: Controllers

    def push(self, files: Mapping[str, str | None], message: str = "change") -> str:
        """Commit files (None: removed) and have Flux look; the commit's full name.

        In life the look comes with the interval or a webhook; what follows is Flux's own.
        """
        self.repository.write(files)
        revision = self.repository.commit(message)
        self.ask("GitRepository", gitops.SOURCE)
        return revision

    def ask(self, kind: str, name: str) -> str:
        """Ask for a look at an object now, as `flux reconcile` does and the interval would.

        Gives the mark that its status shows as lastHandledReconcileAt once that is done.
        """
        mark = uuid.uuid4().hex
        annotations = {"reconcile.fluxcd.io/requestedAt": mark}
        self.bed.kube.patch(kind, name, gitops.HOME, {"metadata": {"annotations": annotations}})
        return mark

    def object(self, kind: str, name: str) -> Manifest:
        """An object of Flux. AssertionError where there is none."""
        found = self.bed.kube.get(kind, name, gitops.HOME)
        assert found, f"no {kind} {name}"
        return found

    def said(self) -> str:
        """Its objects in a table, and the last lines of its controllers."""
        kinds = "gitrepositories,kustomizations,helmcharts,helmreleases"
        table = self.bed.kubectl("get", kinds, "-A", check=False)
        return "\n".join([table.out + table.err, self.controllers.said()])

    def ready(self, kind: str, name: str) -> Manifest:
        """The object. AssertionError, with its own words, while it is not ready."""
        found = self.object(kind, name)
        assert condition(found)["status"] == "True", f"{kind} {name}: {condition(found)}"
        return found

    def applied(self, name: str, revision: str) -> bool:
        """A Kustomization is on a commit, and all of it healthy. AssertionError else."""
        status = self.ready("Kustomization", name)["status"]
        assert status.get("lastAppliedRevision") == f"{BRANCH}@sha1:{revision}", status
        return True

    def newest(self, name: str) -> Manifest:
        """What a release says of its newest revision. AssertionError where there is none."""
        history = self.object("HelmRelease", name)["status"].get("history")
        assert history, f"HelmRelease {name} has no revision yet"
        return dict(history[0])

    def released(self, name: str, revision: str) -> bool:
        """A release runs the chart of a commit. AssertionError else."""
        newest = self.newest(name)
        self.ready("HelmRelease", name)
        assert newest["status"] == "deployed"
        assert newest["chartVersion"] == version(revision, of_values=1), newest
        return True


def condition(item: Manifest, kind: str = "Ready") -> Manifest:
    """A condition of an object as it is now: one that is older than its spec says Unknown."""
    status = item.get("status", {})
    for found in status.get("conditions", []):
        if found["type"] == kind:
            seen = found.get("observedGeneration", status.get("observedGeneration", 0))
            current = seen >= item["metadata"]["generation"]
            return dict(found) if current else {"status": "Unknown", "message": "not looked at yet"}
    return {"status": "Unknown", "message": "no condition yet"}


def version(revision: str = "", of_values: int = 0) -> str:
    """The version that source-controller gives the chart.

    revision: the commit, with strategy `Revision`. of_values: with values files, the generation of
    the HelmChart that names them: another list of files is another version too.
    """
    own = str(yaml.safe_load((repo.ROOT / "Chart.yaml").read_text())["version"])
    marks = [revision[:12]] * bool(revision) + [str(of_values)] * bool(of_values)
    return "+".join([own, *([".".join(marks)] if marks else [])])


def definitions() -> list[Path]:
    """The CRDs that the controllers serve, from their own modules."""
    modules = pins.modules()
    names = ("source-controller", "kustomize-controller", "helm-controller")
    platform = machine.go_platform()
    found = [
        path
        for name in names
        for path in (golang.binaries(modules[name], platform) / "files").glob("*.yaml")
    ]
    assert len(found) >= len(names), "the modules bring no CRDs"
    return sorted(found)


def home(name: str) -> Path:
    """Where the controllers of a cluster keep their files: with its other state, so that the next
    run finds those that a killed one left."""
    return repo.state(name) / "flux"


def stop(name: str) -> None:
    """End the controllers of a cluster, also those of a run that was killed."""
    for pid_file in home(name).glob("*.pid"):
        proc.end(pid_file)


def entry(url: str) -> list[Manifest]:
    """The two objects that flux/README.md tells to apply, with an address."""
    text = (repo.ROOT / "flux" / "README.md").read_text()
    block = re.search(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "flux/README.md has no example"
    source, kustomization = yaml.safe_load_all(block[1])
    assert (source["kind"], kustomization["kind"]) == ("GitRepository", "Kustomization")
    source["spec"]["url"] = url
    return [source, kustomization]


@contextlib.contextmanager
def running(bed: Bed, repository: Repository) -> Iterator[Flux]:
    """Flux on a cluster that has none; nothing is applied of the repository yet."""
    words = [word for path in definitions() for word in ("-f", str(path))]
    bed.kubectl("apply", "--server-side", *words)
    bed.kubectl("create", "namespace", gitops.HOME)
    with serving(Git) as git, serving(Gate) as gate:
        git.folder = repository.folder / ".git"
        controllers = Controllers(bed, home(bed.name), gate.url)
        try:
            controllers.start()
            yield Flux(bed, repository, git, gate, controllers)
        finally:
            stop(bed.name)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        port: int = free.getsockname()[1]
        return port
