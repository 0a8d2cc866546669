"""`up` refuses early, takes no wizard for a page, makes a failed Job anew, and says how long."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from xwiki_stack import cluster, proc, release, render, repo, status, up
from xwiki_stack.cluster import kind
from xwiki_stack.errors import IntentError, RefusedError, UnhealthyError
from xwiki_stack.steps import Done, Log
from xwiki_stack.up import Elsewhere, Place

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log", lambda _text: None)


def test_a_cluster_that_is_not_ours_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def foreign(name: str) -> None:
        raise RefusedError(f"{name} is not ours")

    monkeypatch.setattr(kind, "refuse_foreign", foreign)
    monkeypatch.setattr(cluster, "system_packages", lambda *_: pytest.fail("it went on"))
    with pytest.raises(RefusedError, match="wiki is not ours"):
        up.up("local", 18999, "wiki", emit=print, ask=lambda _question: True)
    assert list(tmp_path.iterdir()) == []


PAGES = {
    "wizard": "<html><head><title>Distribution Wizard</title></head><body>install</body></html>",
    "newer wizard": '<html><head></head><body><div id="distributionWizard"></div></body></html>',
    "page": "<html><head><title>Welcome</title></head><body>about the distribution wizard</body>",
}


@pytest.fixture
def site() -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """A server's URL, and what it answers: one after the other, the last one for ever."""
    answers: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, name = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(PAGES[name].encode())

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answer", [(200, "wizard"), (200, "newer wizard"), (202, "page")])
def test_only_a_page_is_a_page(
    site: tuple[str, list[tuple[int, str]]],
    monkeypatch: pytest.MonkeyPatch,
    log: Log,
    answer: tuple[int, str],
) -> None:
    url, answers = site
    monkeypatch.setattr(proc, "pause", lambda _seconds: None)
    answers[:] = [answer, (200, "page")]
    assert up._page(url, log) == f"{len(PAGES['page'])} bytes of {up.PAGE}"
    assert answers == [(200, "page")], "it took the first answer for a page"
    answers[:] = [answer]
    monkeypatch.setattr(up, "PAGE_SECONDS", 0.2)
    said = "the Distribution Wizard in place of" if "wizard" in answer[1] else "HTTP 202"
    with pytest.raises(UnhealthyError, match=f"does not serve a page: {said}"):
        up._page(url, log)


def job(name: str, *conditions: str) -> Object:
    return {
        "kind": "Job",
        "metadata": {"name": name, "generation": 1},
        "status": {"conditions": [{"type": kind, "status": "True"} for kind in conditions]},
    }


FAILED = "xwiki-stack-xwiki-bootstrap-0123abcd"


class Kube:
    """Jobs, and the names of those that were deleted; gone a moment later."""

    def __init__(self, *jobs: Object) -> None:
        self.jobs = list(jobs)
        self.deleted: list[str] = []

    def every(self, _kind: str, _namespace: str, labels: str) -> list[Object]:
        assert labels == "app.kubernetes.io/instance=xwiki-stack"
        return list(self.jobs)

    def get(self, _kind: str, name: str, _namespace: str) -> Object | None:
        found = [item for item in self.jobs if item["metadata"]["name"] == name]
        self.jobs = [item for item in self.jobs if item["metadata"]["name"] not in self.deleted]
        return found[0] if found else None

    def delete(self, kind: str, name: str, _namespace: str, *, orphan: bool) -> None:
        assert (kind, orphan) == ("Job", False)
        self.deleted.append(name)


def chart(monkeypatch: pytest.MonkeyPatch, log: Log, kube: Kube) -> str:
    """The chart's step on a cluster with these Jobs."""
    place = Place("local", "wiki", "wiki-local", Elsewhere(kubeconfig=Path("kubeconfig")))
    monkeypatch.setattr(up, "Kube", lambda *_: kube)
    monkeypatch.setattr(up, "values", lambda *_: [])

    def install(_self: release.Release, _values: object, _log: object) -> str:
        names = [item["metadata"]["name"] for item in kube.jobs]
        assert not set(names) & set(kube.deleted), "the upgrade met a Job that is being deleted"
        return "upgraded" if kube.deleted else "nothing to do"

    monkeypatch.setattr(release.Release, "install", install)
    return up._chart(place, log)


def test_a_bootstrap_that_gave_up_is_made_anew(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    others = (job("xwiki-stack-xwiki-bootstrap-other", "Failed"), job("backup-0123abcd", "Failed"))
    kube = Kube(job(FAILED, "Failed"), *others)
    said = chart(monkeypatch, log, kube)
    assert said == f"upgraded, Job {FAILED} had failed and is made anew"
    assert kube.deleted == [FAILED]


@pytest.mark.parametrize("conditions", [(), ("Complete",)])
def test_a_bootstrap_that_runs_or_is_done_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, log: Log, conditions: tuple[str, ...]
) -> None:
    kube = Kube(job(FAILED, *conditions))
    assert chart(monkeypatch, log, kube) == "nothing to do"
    assert kube.deleted == []


def test_the_jobs_name_is_the_charts() -> None:
    text = (repo.ROOT / "charts/xwiki/templates/job-bootstrap.yaml").read_text()
    assert 'include "xwiki.fullname" . }}-bootstrap-{{ $spec | sha256sum | trunc 8 }}' in text
    assert up.BOOTSTRAP.fullmatch(FAILED)
    assert not up.BOOTSTRAP.fullmatch(f"{FAILED}0")


def test_every_steps_time_is_told_and_idle_ones_are_summed() -> None:
    done = [
        Done("a", "Engine", "nothing to do", 0.25),
        Done("b", "Chart", "upgraded", 12),
        Done("c", "Tools", "nothing to do, on an older image", 0.25),
        Done("d", "XWiki", "ready", 125),
    ]
    assert up._times(done) == (
        "2 min 18 s of work: Chart 12 s, XWiki 2 min 05 s, 2 steps with nothing to do 0.5 s"
    )
    assert up._times(done[1:2]) == "12 s of work: Chart 12 s"


def test_another_cluster_is_reached_by_its_kubeconfig_and_the_advice_fits() -> None:
    file = Path("/etc/far")
    far = up._place("staging", "wiki", Elsewhere(kubeconfig=file, context="main"))
    assert far.kubeconfig == file
    assert far.ways == status.Ways(
        kubectl=f"kubectl --kubeconfig /etc/far --context main -n {far.namespace}",
        expand="xwiki-stack expand --env staging --kubeconfig /etc/far --context main",
        install="`flux reconcile helmrelease xwiki-stack-staging -n flux-system --force`",
        delivered="xwiki-stack-staging",
    )
    assert up._place("local", "wiki").ways == status.LOCAL
    other = up._place("local", "wiki", Elsewhere(namespace="other"))
    assert other.namespace == "other"
    assert other.ways == replace(status.LOCAL, kubectl="xwiki-stack kubectl -n other")
    with pytest.raises(RefusedError, match="reach it with --kubeconfig FILE"):
        up._place("staging", "wiki", Elsewhere(namespace="other"))
    with pytest.raises(IntentError, match="--kubeconfig FILE"):
        up._place("local", "wiki", Elsewhere(context="main"))


def test_status_asks_the_cluster_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(up, "Kube", lambda *where: asked.append(where))
    monkeypatch.setattr(status, "diagnose", lambda *what: asked.append(what))
    elsewhere = Elsewhere(kubeconfig=Path("/etc/far"), context="main")
    up.state("staging", "wiki", elsewhere)
    place = up._place("staging", "wiki", elsewhere)
    assert asked == [
        (Path("/etc/far"), "main"),
        (None, place.namespace, render.RELEASE, place.ways),
    ]


def test_local_urls_are_not_those_of_another_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xwiki_stack.portforward.running", lambda _cluster: [8080])
    report = status.Report("ns", "rel")
    assert "URL: http://127.0.0.1:8080" in up.state_text(report, "wiki")
    assert "URL" not in up.state_text(report, "wiki", Elsewhere(namespace="other"))


@pytest.mark.parametrize(("idle", "said"), [(True, "it is stopped too"), (False, "")])
def test_an_engine_of_ours_goes_with_its_last_cluster(
    monkeypatch: pytest.MonkeyPatch, idle: bool, said: str
) -> None:
    monkeypatch.setattr(cluster, "stop_engine_if_idle", lambda: idle)
    monkeypatch.setattr(cluster, "stop", lambda _name: True)
    monkeypatch.setattr(cluster, "delete", lambda _name: True)
    assert up.down("wiki").endswith(said or "`make up` starts it again")
    assert up.delete("wiki").endswith(said or "is deleted")


def test_the_packages_are_those_of_the_clusters_bed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []

    def install(_log: Log, name: str, *, peers: bool) -> str:
        assert not peers
        installed.append(name)
        return "made"

    monkeypatch.setattr(cluster, "system_packages", lambda name, **_: [f"for-{name}"])
    monkeypatch.setattr(cluster, "install_packages", install)
    monkeypatch.setattr(cluster, "describe_bed", lambda name: f"those of {name}")
    said: list[str] = []
    with pytest.raises(RefusedError, match="nothing was installed"):
        up.install_system_packages(said.append, lambda _question: False, "wiki")
    assert installed == []
    up.install_system_packages(said.append, lambda _question: True, "wiki")
    assert installed == ["wiki"]
    assert said[:2] == ["Images are those of wiki", "About to install with apt-get: for-wiki"]
