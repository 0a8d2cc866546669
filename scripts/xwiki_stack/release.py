"""One Helm release: installed, upgraded, compared, taken away."""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xwiki_stack import proc, render, repo
from xwiki_stack.errors import IntentError
from xwiki_stack.kube import Kube, Manifest, silent

UNREACHABLE = re.compile(
    "cluster unreachable|connection (refused|reset)|i/o timeout|TLS handshake timeout"
)
"""How Helm words it that the API server does not answer, before its work or in the middle."""

REPAIR = (
    "for a raised claim template: `xwiki-stack expand` grows the claim, `xwiki-stack expand "
    "--recreate` takes the StatefulSet away and leaves its pod running, then run this again"
)
"""What to do when Helm says that a StatefulSet cannot take the change."""


@dataclass(frozen=True)
class Record:
    """Helm's own note of the newest revision of a release, and what that consists of."""

    revision: int
    state: str
    """Helm's word: deployed, failed, pending-upgrade, ..."""
    objects: list[Manifest]


def recorded(kube: Kube, namespace: str, name: str) -> Record | None:
    """The newest revision of a release; None where there is none.

    Shape (Helm 3 and 4): one Secret per revision, labelled with release and version, holding
    Base64 of gzipped JSON. Whoever installed it, Helm or Flux, and with no program needed.
    """
    secrets = kube.every("Secret", namespace, f"owner=helm,name={name}")
    if not secrets:
        return None
    newest = max(secrets, key=lambda secret: int(secret["metadata"]["labels"]["version"]))
    packed = base64.b64decode(base64.b64decode(newest["data"]["release"]))
    note = json.loads(gzip.decompress(packed))
    return Record(
        int(note["version"]), str(note["info"]["status"]), render.documents(note["manifest"])
    )


@dataclass(frozen=True)
class Release:
    """A release of a chart in a namespace of a cluster, reached through one kubeconfig."""

    helm: Path
    kubeconfig: Path
    namespace: str
    name: str = render.RELEASE
    chart: Path = repo.ROOT

    def install(self, values: Sequence[render.Values], log: Path | None = None) -> str:
        """Install, upgrade, or find that nothing would change; give which of the three.

        Nothing changes only where the API server holds what the release consists of: Helm's
        record does not notice what was deleted or scaled by hand, an upgrade puts it right.
        Does not wait for pods. Raises IntentError with Helm's words when it refuses,
        UnhealthyError when the API server does not answer.
        """
        record = recorded(self.kube, self.namespace, self.name)
        state = record.state if record else ""
        if record and state == "deployed" and self._holds(record) and self._renders(record, values):
            return "nothing to do"
        if state.startswith("pending"):
            self._forget_interrupted()
        with TemporaryDirectory(prefix="xwiki-stack-values-") as folder:
            argv: list[str | Path] = ["upgrade", "--install", self.name, self.chart]
            # What the chart says wins over what was changed by hand.
            argv += ["--server-side=true", "--force-conflicts"]
            for path in render.values_files(values, Path(folder)):
                argv += ["--values", path]
            self._helm(argv, log)
        return "upgraded" if state else "installed"

    def uninstall(self, log: Path | None = None) -> None:
        """Remove the release; claims stay, by the chart's own policy."""
        self._helm(["uninstall", self.name, "--wait", "--timeout", "3m"], log)

    @property
    def kube(self) -> Kube:
        """The API server it lies on."""
        return Kube(self.kubeconfig)

    def state(self) -> str:
        """Helm's word for the newest revision (deployed, failed, pending-upgrade), '' if none."""
        record = recorded(self.kube, self.namespace, self.name)
        return record.state if record else ""

    def revision(self) -> int:
        """The number of the newest revision, 0 if there is none."""
        record = recorded(self.kube, self.namespace, self.name)
        return record.revision if record else 0

    def objects(self) -> list[Manifest]:
        """What the newest revision consists of."""
        record = recorded(self.kube, self.namespace, self.name)
        return record.objects if record else []

    def _renders(self, record: Record, values: Sequence[render.Values]) -> bool:
        """Whether the chart with these values renders what is installed."""
        wanted = render.helm_template(self.chart, values, self.name, self.namespace, helm=self.helm)
        return _sorted(wanted) == _sorted(record.objects)

    def _holds(self, record: Record) -> bool:
        """Whether the API server has every object, with as many replicas as was rendered."""
        kube = self.kube
        return all(_as_rendered(item, kube.live(item, self.namespace)) for item in record.objects)

    def _forget_interrupted(self) -> None:
        """Drop the record of an upgrade that was interrupted, which would block the next one.

        Helm keeps one Secret per revision; the objects themselves carry the release's name and
        are taken over by the next upgrade.
        """
        kube = self.kube
        labels = f"owner=helm,name={self.name}"
        for secret in kube.every("Secret", self.namespace, labels):
            if secret["metadata"]["labels"].get("status", "").startswith("pending"):
                kube.delete("Secret", secret["metadata"]["name"], self.namespace, orphan=False)

    def _helm(self, argv: Sequence[str | Path], log: Path | None = None) -> proc.Result:
        where = ["--namespace", self.namespace, "--kubeconfig", str(self.kubeconfig)]
        try:
            return proc.run([self.helm, *argv, *where], log=log)
        except proc.CommandFailed as failed:
            if UNREACHABLE.search(failed.tail):
                raise silent() from failed
            raise IntentError(
                render.explain(failed.tail),
                where=f"release {self.namespace}/{self.name}",
                next=REPAIR if "updates to statefulset spec" in failed.tail else "",
            ) from failed


def _as_rendered(rendered: Manifest, live: Manifest | None) -> bool:
    wanted = rendered.get("spec", {}).get("replicas")
    return live is not None and wanted in (None, live.get("spec", {}).get("replicas"))


def _sorted(objects: list[Manifest]) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in objects)
