"""One Helm release: installed, upgraded, compared, taken away."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from xwiki_stack import proc, render, repo
from xwiki_stack.errors import IntentError
from xwiki_stack.kube import Kube, Manifest


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

        Does not wait for pods. Raises IntentError with Helm's words when it refuses.
        """
        state = self.state()
        if state == "deployed" and self._unchanged(values):
            return "nothing to do"
        if state.startswith("pending"):
            self._forget_interrupted()
        with TemporaryDirectory(prefix="xwiki-stack-values-") as folder:
            argv: list[str | Path] = ["upgrade", "--install", self.name, self.chart]
            for path in render.values_files(values, Path(folder)):
                argv += ["--values", path]
            self._helm(argv, log)
        return "upgraded" if state else "installed"

    def uninstall(self, log: Path | None = None) -> None:
        """Remove the release; claims stay, by the chart's own policy."""
        self._helm(["uninstall", self.name, "--wait", "--timeout", "3m"], log)

    def state(self) -> str:
        """Helm's word for the newest revision (deployed, failed, pending-upgrade), '' if none."""
        newest = [item for item in self._revisions() if item["name"] == self.name]
        return str(newest[0]["status"]) if newest else ""

    def revision(self) -> int:
        """The number of the newest revision, 0 if there is none."""
        newest = [item for item in self._revisions() if item["name"] == self.name]
        return int(newest[0]["revision"]) if newest else 0

    def objects(self) -> list[Manifest]:
        """What the newest revision consists of."""
        text = self._helm(["get", "manifest", self.name]).out
        return [item for item in yaml.safe_load_all(text) if item]

    def _unchanged(self, values: Sequence[render.Values]) -> bool:
        wanted = render.helm_template(self.chart, values, self.name, self.namespace, helm=self.helm)
        return _sorted(wanted) == _sorted(self.objects())

    def _revisions(self) -> list[dict[str, Any]]:
        argv = ["list", "--filter", f"^{self.name}$", "--output", "json"]
        revisions: list[dict[str, Any]] = json.loads(self._helm(argv).out or "[]")
        return revisions

    def _forget_interrupted(self) -> None:
        """Drop the record of an upgrade that was interrupted, which would block the next one.

        Helm keeps one Secret per revision; the objects themselves carry the release's name and
        are taken over by the next upgrade.
        """
        kube = Kube(self.kubeconfig)
        labels = f"owner=helm,name={self.name}"
        for secret in kube.every("Secret", self.namespace, labels):
            if secret["metadata"]["labels"].get("status", "").startswith("pending"):
                kube.delete("Secret", secret["metadata"]["name"], self.namespace, orphan=False)

    def _helm(self, argv: Sequence[str | Path], log: Path | None = None) -> proc.Result:
        where = ["--namespace", self.namespace, "--kubeconfig", str(self.kubeconfig)]
        try:
            return proc.run([self.helm, *argv, *where], log=log)
        except proc.CommandFailed as failed:
            raise IntentError(
                render.explain(failed.tail), where=f"release {self.namespace}/{self.name}"
            ) from failed


def _sorted(objects: list[Manifest]) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in objects)
