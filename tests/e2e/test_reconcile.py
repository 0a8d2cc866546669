"""Flux keeps a cluster as Git says: the real controllers reconcile this checkout's own tree.

On a cluster of its own, since the tree has Secrets, quotas and, with Longhorn, a default class.
The cluster's facts differ from the committed ones so that the wiki can run here (local-path, no
door, no metrics); everything that follows from them is generated as `make generate` does.
"""

import base64
import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
import requests
import yaml

from tests import clusters, crds
from tests.e2e import definitions, hollow
from tests.e2e import flux as bench
from tests.e2e.conftest import LIGHT, Bed, settled
from tests.e2e.flux import Flux, Repository, condition
from tests.e2e.inside import Inside
from tests.e2e.patience import eventually
from tests.e2e.test_changes import changed
from xwiki_stack import (
    cluster,
    credentials,
    generate,
    gitops,
    proc,
    release,
    render,
    repo,
    steps,
    suite,
    upstream,
)
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.kube import Kube, Manifest

pytestmark = pytest.mark.usefixtures("flux")

NAME = f"{suite.CLUSTER}-flux"
APP = f"{gitops.SOURCE}-staging"
"""The Kustomization and the HelmRelease of the wiki."""

VALUES = "values/generated/staging/xwiki-stack.yaml"
SEALED = f"flux/apps/{gitops.SOURCE}/staging"
START = 240.0
"""Seconds for a first start of database and wiki on two busy cores."""


def facts() -> tuple[Cluster, Environment]:
    """A cluster that this machine can be, and staging on it."""
    found, carried = clusters.of("bare")
    (staging,) = [env for env in carried if env.name == "staging"]
    return found, dataclasses.replace(staging, flavor="none")


def tree(repository: Repository, *environments: Environment) -> dict[str, str | None]:
    """What `make generate` writes for the cluster with these environments; None: what it removes.

    The values of a wiki name this bed's images, where it has its own, and ask for less.
    """
    found, _staging = facts()
    top = repository.folder
    made: dict[str, str | None] = {**gitops.files(found, environments, top / "flux")}
    for env in environments:
        values = yaml.safe_load(generate.text_of(env, found))
        for own in (cluster.image_values(NAME) or {}, LIGHT):
            values = upstream.merged(values, own)
        made[f"values/generated/{env.name}/xwiki-stack.yaml"] = yaml.safe_dump(values)
    every = [*(top / "flux").rglob("*.yaml"), *(top / "values" / "generated").rglob("*.yaml")]
    stale = [path for path in every if path.read_text().startswith(generate.MARK)]
    return {str(path.relative_to(top)): None for path in stale} | made


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    """A cluster with Flux, and a repository of this checkout that it does not know yet."""
    tree_of = tmp_path_factory.mktemp("flux") / "tree"
    # What a killed run left.
    bench.stop(NAME)
    cluster.delete(NAME)
    try:
        steps.execute(cluster.prepare(cluster.Config(name=NAME)), print)
        kubeconfig = cluster.kubeconfig(NAME)
        bed = Bed(NAME, kubeconfig, Kube(kubeconfig))
        with bench.running(bed, Repository.of_checkout(tree_of)) as found:
            yield found
    finally:
        cluster.delete(NAME)


@dataclasses.dataclass(frozen=True)
class App:
    """The wiki that Flux brought: its namespace, and what its Secrets were before sealing."""

    flux: Flux
    namespace: str
    secrets: dict[str, dict[str, str]]

    @property
    def bed(self) -> Bed:
        """Its cluster."""
        return self.flux.bed

    @property
    def inside(self) -> Inside:
        """The wiki itself."""
        return Inside(self.bed, self.namespace)

    @property
    def uids(self) -> dict[str, str]:
        """As Bed.uids."""
        return self.bed.uids(self.namespace)

    def arrived(self, revision: str) -> bool:
        """All of a commit is applied, rolled out and ready. AssertionError else."""
        for name in (gitops.SOURCE, gitops.BASE, APP):
            self.flux.applied(name, revision)
        self.flux.released(APP, revision)
        return settled(self.bed, self.namespace)

    def values(self) -> dict[str, Any]:
        """The wiki's values in the repository."""
        found: dict[str, Any] = yaml.safe_load(self.flux.repository.read(VALUES))
        return found

    def status(self) -> str:
        """What `xwiki-stack status` says of it."""
        words = ["status", "--env", "staging", "--kubeconfig", str(self.bed.kubeconfig)]
        return self.bed.cli(*words).stdout


def sealed(item: Manifest, recipient: str, folder: Path) -> str:
    """A Secret as SOPS seals it for an age key; not by the rules of this checkout, whose keys are
    its owner's."""
    plain = folder / "plain.yaml"
    plain.write_text(yaml.safe_dump(item))
    only = ["--encrypted-regex", "^(data|stringData)$"]
    argv: list[str | Path] = [cluster.tools().sops, "encrypt", "--age", recipient, *only, plain]
    return proc.run(argv, cwd=folder).out


@pytest.fixture(scope="module")
def app(flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> App:
    """The wiki of staging, brought by what flux/README.md tells to apply and nothing else."""
    _found, staging = facts()
    key = pyrage.x25519.Identity.generate()
    plain: dict[str, dict[str, str]] = {}
    for component, lengths in credentials.KEYS.items():
        data = {name: credentials.random(length) for name, length in lengths.items()}
        name = f"{render.RELEASE}-{component}"
        encoded = {key: credentials.encode(value) for key, value in data.items()}
        item = credentials.manifest(name, staging.namespace, encoded)
        text = sealed(item, str(key.to_public()), tmp_path_factory.mktemp("plain"))
        flux.repository.write({f"{SEALED}/{component}.sops.yaml": text})
        plain[name] = data
    # The one Secret that nobody can seal.
    opener = {"age.agekey": credentials.encode(str(key))}
    flux.bed.kube.apply(credentials.manifest("sops-age", gitops.HOME, opener))
    flux.repository.write(tree(flux.repository, staging))
    revision = flux.repository.commit("a wiki")
    for entry in bench.entry(f"{flux.git.url}/{gitops.SOURCE}.git"):
        flux.bed.kube.apply(entry)
    made = App(flux, staging.namespace, plain)
    eventually(lambda: made.arrived(revision), seconds=START)
    return made


def chart_of(flux: Flux, name: str) -> tuple[Manifest, dict[str, bytes]]:
    """A HelmChart's artifact as its status names it, and the files in it. AssertionError else."""
    artifact = flux.ready("HelmChart", name)["status"].get("artifact")
    assert artifact, f"HelmChart {name} has no artifact yet"
    packed = requests.get(artifact["url"], timeout=10).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return artifact, {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive.getmembers()
            if member.isfile()
        }


def helm_chart(name: str, **spec: Any) -> Manifest:
    """A HelmChart of the repository's root."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "HelmChart",
        "metadata": {"name": name, "namespace": gitops.HOME},
        "spec": {
            "chart": "./",
            "interval": "1h",
            "sourceRef": {"kind": "GitRepository", "name": gitops.SOURCE},
            **spec,
        },
    }


def test_what_flux_installs_is_what_helm_renders_of_the_same_files(app: App) -> None:
    """The chart from Git with its values file; its version, which names the commit, is nowhere."""
    record = release.recorded(app.bed.kube, app.namespace, render.RELEASE)
    assert record
    assert record.state == "deployed"
    assert len(record.objects) > 10
    installed = {}
    for item in record.objects:
        # Flux marks what it made, beside the pods' own labels.
        labels = item["metadata"]["labels"]
        assert labels.pop("helm.toolkit.fluxcd.io/name") == APP
        assert labels.pop("helm.toolkit.fluxcd.io/namespace") == gitops.HOME
        installed[item["kind"], item["metadata"]["name"]] = item
    values = [app.flux.repository.folder / VALUES]
    wanted = render.helm_template(values=values, namespace=app.namespace)
    assert installed == {(item["kind"], item["metadata"]["name"]): item for item in wanted}
    assert app.inside.write("FromGit") == "201"
    assert app.status().startswith(f"{app.namespace}/{render.RELEASE}: healthy")


def test_sealed_secrets_are_opened_in_the_cluster_and_nowhere_else(app: App) -> None:
    for name, data in app.secrets.items():
        found = app.bed.kube.get("Secret", name, app.namespace)
        assert found
        assert {key: base64.b64decode(found["data"][key]).decode() for key in data} == data
        assert "sops" not in found
    folder = app.flux.repository.folder
    texts = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    secret = [value for data in app.secrets.values() for value in data.values()]
    secret += [credentials.encode(value) for value in secret]
    assert len(texts) > 100
    assert not [value for value in secret for text in texts if value in text]


def test_with_strategy_revision_every_commit_is_a_version_and_with_the_other_none(
    app: App,
) -> None:
    """The contract with source-controller that the tree relies on."""
    flux = app.flux
    for name, strategy in (("by-commit", "Revision"), ("by-number", "ChartVersion")):
        app.bed.kube.apply(helm_chart(name, reconcileStrategy=strategy))
    number, _files = eventually(lambda: chart_of(flux, "by-number"))
    assert number["revision"] == bench.version()
    values = f"{flux.repository.read('values.yaml')}# A line more.\n"
    revision = flux.push({"values.yaml": values}, "a comment")

    def seen() -> bool:
        found = flux.ready("HelmChart", "by-number")
        source = found["status"].get("observedSourceArtifactRevision")
        assert source == f"{bench.BRANCH}@sha1:{revision}"
        artifact, _files = chart_of(flux, "by-commit")
        assert artifact["revision"] == bench.version(revision)
        return True

    eventually(seen)
    assert chart_of(flux, "by-number")[0]["digest"] == number["digest"], "a commit was a version"
    eventually(lambda: app.arrived(revision), seconds=START)


def test_values_files_become_the_charts_values_in_their_order(app: App) -> None:
    """They may lie where .helmignore hides them from the chart; one that is missing is said."""
    flux = app.flux
    late = {"xwiki": {"java": {"heap": "9g"}, "resources": {}}, "netpol": None}
    revision = flux.push({"values/late.yaml": yaml.safe_dump(late)}, "values of a test")
    lists = {
        "in-order": ["values.yaml", VALUES, "values/late.yaml"],
        "turned": ["values/late.yaml", VALUES, "values.yaml"],
        "lost": ["values.yaml", "gone.yaml"],
    }
    for name, paths in lists.items():
        spec = {"reconcileStrategy": "Revision", "valuesFiles": paths}
        app.bed.kube.apply(helm_chart(name, **spec))
    numbered = helm_chart("numbered", reconcileStrategy="ChartVersion", valuesFiles=[VALUES])
    app.bed.kube.apply(numbered)
    found = {}
    for name in ("in-order", "turned"):
        artifact, files = eventually(lambda name=name: chart_of(flux, name))  # type: ignore[misc]
        assert artifact["revision"] == bench.version(revision, of_values=1)
        found[name] = yaml.safe_load(files[f"{render.RELEASE}/values.yaml"])
        wanted: dict[str, Any] = {}
        for path in lists[name]:
            wanted = upstream.merged(wanted, yaml.safe_load(flux.repository.read(path)))
        assert found[name] == wanted
        assert f"{render.RELEASE}/{VALUES}" not in files
        assert f"{render.RELEASE}/charts/mysql/Chart.yaml" in files
        assert (
            yaml.safe_load(files[f"{render.RELEASE}/Chart.yaml"])["version"]
            == (artifact["revision"])
        )
    assert (
        found["in-order"]["xwiki"]["java"]["heap"] == "9g" != app.values()["xwiki"]["java"]["heap"]
    )
    assert found["turned"] != found["in-order"]
    artifact, _files = eventually(lambda: chart_of(flux, "numbered"))
    assert artifact["revision"] == bench.version(of_values=1)

    def said() -> bool:
        item = condition(flux.object("HelmChart", "lost"))
        assert item["status"] == "False"
        return "gone.yaml" in item["message"]

    eventually(said)
    eventually(lambda: app.arrived(revision), seconds=START)


def test_a_commit_that_changes_a_value_rolls_what_reads_it_and_nothing_else(app: App) -> None:
    before = app.uids
    java = {"xwiki": {"java": {"maxGCPauseMillis": 150}}}
    values = upstream.merged(app.values(), java)
    assert values != app.values()
    revision = app.flux.push({VALUES: yaml.safe_dump(values)}, "a value")
    eventually(lambda: app.arrived(revision), seconds=START)
    assert changed(before, app.uids) == {"xwiki"}
    assert eventually(lambda: app.inside.write("AfterAValue") in ("201", "202"))


def test_a_commit_to_a_page_is_a_new_revision_that_restarts_nothing(app: App) -> None:
    before = app.uids
    number = app.bed.release(app.namespace).revision()
    page = f"{app.flux.repository.read('README.md')}\nA line more.\n"
    revision = app.flux.push({"README.md": page}, "docs")
    eventually(lambda: app.arrived(revision), seconds=START)
    assert app.bed.release(app.namespace).revision() == number + 1, "Flux did not see the commit"
    assert changed(before, app.uids) == set()


def test_what_somebody_changed_or_deleted_by_hand_is_put_right(app: App) -> None:
    """The looks asked for here come every hour; a quota is kustomize's, the rest Helm's."""
    before, there = app.uids, ["-n", app.namespace]
    config, account = "configmap/xwiki-stack-mysql", "serviceaccount/xwiki-stack-xwiki"
    looks = [
        [*there, "get", config, "-o", "jsonpath={.data}"],
        [*there, "get", "resourcequota/bounds", "-o", "jsonpath={.spec.hard}"],
        [*there, "get", account, "-o", "name"],
    ]

    def seen() -> list[str]:
        return [app.bed.kubectl(*look, check=False).out for look in looks]

    right = seen()
    app.bed.kubectl(*there, "patch", config, "-p", '{"data": {"my.cnf": "[mysqld]"}}')
    wider = '{"spec": {"hard": {"services.nodeports": "9"}}}'
    app.bed.kubectl(*there, "patch", "resourcequota/bounds", "-p", wider)
    app.bed.kubectl(*there, "delete", account)
    assert not [now for now, was in zip(seen(), right, strict=True) if now == was]
    app.flux.ask("HelmRelease", APP)
    app.flux.ask("Kustomization", gitops.BASE)
    eventually(lambda: seen() == right)
    eventually(lambda: app.flux.ready("HelmRelease", APP))
    assert changed(before, app.uids) == set()
    found = "\n".join(corrections(app))
    assert "xwiki-stack-mysql" in found
    assert "xwiki-stack-xwiki" in found


def test_a_port_changed_by_hand_is_said_with_the_way_out(app: App) -> None:
    """A list by port: Flux would put the right one beside it, under the same name."""
    service = app.bed.kube.get("Service", "xwiki-stack-xwiki", app.namespace)
    assert service
    ports = service["spec"]["ports"]
    moved = {"spec": {"ports": [{**ports[0], "port": 8099}]}}
    app.bed.kube.patch("Service", "xwiki-stack-xwiki", app.namespace, moved)
    app.flux.ask("HelmRelease", APP)
    eventually(lambda: condition(app.flux.object("HelmRelease", APP))["status"] == "False")
    said = app.status()
    assert f"wrong: HelmRelease {APP}: is not rolled out" in said
    assert "xwiki-stack-xwiki" in said
    assert "delete what was changed by hand" in said
    app.bed.kube.delete("Service", "xwiki-stack-xwiki", app.namespace, orphan=False)
    app.flux.ask("HelmRelease", APP)

    def right() -> bool:
        found = app.bed.kube.get("Service", "xwiki-stack-xwiki", app.namespace)
        assert found
        assert found["spec"]["ports"] == ports
        return bool(app.flux.ready("HelmRelease", APP))

    eventually(right)


def test_a_look_at_what_nobody_changed_corrects_nothing(app: App) -> None:
    """Else every hour would: what the API server or a controller fills in is no drift."""
    mark = app.flux.ask("HelmRelease", APP)

    def looked() -> bool:
        found = app.flux.ready("HelmRelease", APP)
        assert found["status"].get("lastHandledReconcileAt") == mark
        assert condition(found, "Drifted").get("reason") == "NoDriftDetected"
        return True

    before = corrections(app)
    eventually(looked)
    assert corrections(app) == before


def corrections(app: App) -> list[str]:
    """What helm-controller says that it found changed or put right, as events."""
    events = app.bed.kube.every("Event", gitops.HOME)
    return sorted(
        f"{item['metadata']['name']} {item.get('count')}: {item['message']}"
        for item in events
        if item["involvedObject"]["kind"] == "HelmRelease" and "rift" in item["reason"]
    )


@dataclasses.dataclass(frozen=True)
class Broken:
    """A commit that cannot be applied: what it changes, and who says so in which words."""

    path: str
    change: dict[str, Any]
    kind: str
    words: str


BROKEN = {
    "a file that is not there": Broken(
        f"{SEALED}/kustomization.yaml", {"resources": ["gone.yaml"]}, "Kustomization", "gone.yaml"
    ),
    "values that contradict each other": Broken(
        VALUES,
        {"xwiki": {"database": {"user": "somebody"}}},
        "HelmRelease",
        'xwiki.database.user is "somebody" but mysql.database.user is "xwiki"; make them equal',
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_commit_leaves_what_runs_alone_and_is_explained(app: App, what: str) -> None:
    commit = BROKEN[what]
    path, kind, words = commit.path, commit.kind, commit.words
    before, right = app.uids, app.flux.repository.read(path)
    installed = app.flux.newest(APP)["chartVersion"]
    broken = yaml.safe_dump(upstream.merged(yaml.safe_load(right), commit.change))
    app.flux.push({path: broken}, what)

    def refused() -> bool:
        found = condition(app.flux.object(kind, APP))
        assert found["status"] == "False", found
        return words in found["message"]

    eventually(refused)
    said = app.status()
    assert f"wrong: {kind} {APP}: is not " in said
    assert words in said
    assert "correct it in Git" in said
    assert changed(before, app.uids) == set()
    assert app.inside.status("WebHome") in ("200", "404"), "the wiki does not answer"
    revision = app.flux.push({path: right}, "back")
    eventually(lambda: app.arrived(revision), seconds=START)
    assert changed(before, app.uids) == set()
    assert app.status().startswith(f"{app.namespace}/{render.RELEASE}: healthy")
    now = app.flux.newest(APP)["chartVersion"]
    assert now != installed


def test_a_wiki_that_leaves_the_tree_leaves_its_volumes_and_comes_back_on_them(app: App) -> None:
    _found, staging = facts()
    assert app.inside.write("Kept") in ("201", "202")
    volumes = claims(app)
    assert len(volumes) == 2
    repository = app.flux.repository
    closed = {
        path: repository.read(path)
        for path in (f"{SEALED}/mysql.sops.yaml", f"{SEALED}/xwiki.sops.yaml")
    }
    revision = app.flux.push({**dict.fromkeys(closed), **tree(repository)}, "no wiki")

    def gone() -> bool:
        app.flux.applied(gitops.SOURCE, revision)
        assert not app.bed.kube.get("HelmRelease", APP, gitops.HOME)
        return not app.bed.pods(app.namespace, "xwiki", "mysql")

    eventually(gone, seconds=120)
    assert not app.bed.kube.get("Secret", "xwiki-stack-mysql", app.namespace)
    assert claims(app) == volumes, "the namespace and its claims are not Flux's to take"
    repository.write(dict(closed))
    revision = app.flux.push({**tree(repository, staging), **closed}, "the wiki again")
    eventually(lambda: app.arrived(revision), seconds=START)
    assert claims(app) == volumes
    eventually(lambda: app.inside.status("Kept") == "200")


def claims(app: App) -> dict[str, str]:
    """The volume that each claim is bound to."""
    return {
        item["metadata"]["name"]: item["spec"]["volumeName"]
        for item in app.bed.kube.every("PersistentVolumeClaim", app.namespace)
        if item["status"]["phase"] == "Bound"
    }


def without_wiki(flux: Flux) -> None:
    """The wiki that other tests brought is gone, with its namespace and volumes."""
    if not flux.bed.kube.get("GitRepository", gitops.SOURCE, gitops.HOME):
        return
    repository = flux.repository
    closed = (repository.folder / "flux").rglob("*.sops.yaml")
    names = [str(path.relative_to(repository.folder)) for path in closed]
    revision = flux.push({**dict.fromkeys(names), **tree(repository)}, "no wiki")
    eventually(lambda: flux.applied(gitops.BASE, revision))
    eventually(lambda: flux.bed.kube.get("HelmRelease", APP, gitops.HOME) is None)
    flux.bed.kubectl("delete", "namespace", facts()[1].namespace)


@crds.here
def test_the_committed_tree_is_applied_in_its_order_on_hollow_charts(flux: Flux) -> None:
    """All of flux/clusters/main as it is, but for the addresses of charts that cannot be pulled.

    So sources, releases, values, waits and admission are real; the charts' own objects are not
    there. The wiki of this tree waits for Longhorn's volumes, which nobody makes.
    """
    without_wiki(flux)
    found = definitions.files(name for name in definitions.OWNERS if name != "flux")
    assert len(found) > 50
    definitions.serve(flux.bed, found)
    with bench.serving(hollow.Shelf) as shelf:
        ours = [*(repo.ROOT / "flux").rglob("*"), *generate.GENERATED.rglob("*")]
        files: dict[str, str | None] = {
            repo.relative(path): path.read_text() for path in ours if path.is_file()
        }
        charts = {}
        for name in gitops.releases(clusters.of("main")[0]):
            where = repo.ROOT / "flux" / "infra" / name
            charts[name], source = hollow.stand_in(where, shelf.url, shelf.shelf)
            files[f"{repo.relative(where)}/source.yaml"] = yaml.safe_dump(source)
        flux.repository.write(files)
        revision = flux.repository.commit("the committed tree")
        for entry in bench.entry(f"{flux.git.url}/{gitops.SOURCE}.git"):
            flux.bed.kube.apply(entry)
        flux.ask("GitRepository", gitops.SOURCE)
        parts = clusters.parts("main")
        for name in parts:
            if name != APP:
                eventually(lambda name=name: flux.applied(name, revision))  # type: ignore[misc]
        eventually(lambda: chart_of(flux, f"{gitops.HOME}-{APP}"))
    assert len(charts) >= 5
    for name in charts:
        namespace = gitops.RELEASES[name]
        item = flux.bed.kube.get("HelmRelease", name, namespace)
        assert item
        assert condition(item)["status"] == "True", name
        note = flux.bed.kubectl("-n", namespace, "get", "configmap", f"hollow-{name}", "-o", "json")
        reached = json.loads(json.loads(note.out)["data"]["values"])
        assert reached == clusters.values("main").get(name, {}), name
    begun = {name: first_object(flux, name) for name in parts}
    done = {name: finished(flux, name) for name in parts if name != APP}
    waits = [(name, need) for name, part in parts.items() for need in part.needs]
    assert len(waits) > 10
    assert [(name, need) for name, need in waits if begun[name] < done[need]] == []


def first_object(flux: Flux, name: str) -> str:
    """When the first object of a Kustomization was made."""
    made = []
    part = flux.object("Kustomization", name)
    for entry in part["status"].get("inventory", {}).get("entries", ()):
        namespace, own, group, kind = entry["id"].split("_")
        version = f"{group}/{entry['v']}" if group else entry["v"]
        meta = {"name": own, **({"namespace": namespace} if namespace else {})}
        item = flux.bed.kube.live({"kind": kind, "apiVersion": version, "metadata": meta}, "")
        assert item, entry
        made.append(item["metadata"]["creationTimestamp"])
    assert made, f"{name} has no objects"
    return str(min(made))


def finished(flux: Flux, name: str) -> str:
    """When a Kustomization became healthy."""
    return str(condition(flux.ready("Kustomization", name))["lastTransitionTime"])


def test_nothing_was_asked_of_anybody_outside(flux: Flux) -> None:
    assert flux.gate.asked == []
