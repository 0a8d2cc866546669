"""Which two trees a review compares: on a repository of its own, and never writing to it."""

from pathlib import Path

import pytest
import yaml

from xwiki_stack import cluster, gitops, intent, proc, repo
from xwiki_stack.errors import IntentError, UndecidedError
from xwiki_stack.review import sources


class Repository:
    """A checkout with as many commits as a test makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.email", "author@example.org")
        self.git("config", "user.name", "Author")

    def git(self, *words: str) -> str:
        return proc.run(["git", "-C", self.root, *words]).out.strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, title: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", title)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A chart with one environment on main; Helm is the one of the real checkout."""
    tools = cluster.tools()
    monkeypatch.setattr(cluster, "tools", lambda: tools)
    monkeypatch.setattr(repo, "ROOT", tmp_path / "checkout")
    (tmp_path / "checkout").mkdir()
    made = Repository(tmp_path / "checkout")
    made.write("Chart.yaml", "{apiVersion: v2, name: c, version: 0.1.0}\n")
    made.write("values/generated/local/xwiki-stack.yaml", "{}\n")
    made.write("values/envs/local.yaml", "{cluster: small}\n")
    made.write("values/clusters/small.yaml", "{project: wiki}\n")
    made.commit("one")
    return made


def test_without_a_word_the_work_is_compared_with_where_it_left_main(checkout: Repository) -> None:
    left = checkout.git("rev-parse", "HEAD")
    checkout.git("switch", "--quiet", "--create", "work")
    checkout.commit("mine")
    checkout.git("switch", "--quiet", "main")
    checkout.commit("theirs")
    checkout.git("switch", "--quiet", "work")
    start, end = sources.ends("", "")
    assert (start.commit, end.commit) == (left, "")
    assert start.words == f"{left[:7]} (one), where it left main"
    assert end.words == "the working tree"


def test_what_others_have_counts_more_than_a_main_of_ones_own(checkout: Repository) -> None:
    pushed = checkout.git("rev-parse", "HEAD")
    checkout.git("update-ref", "refs/remotes/origin/main", pushed)
    checkout.commit("not pushed yet")
    assert sources.ends("", "")[0].commit == pushed


def test_one_commit_of_main_is_compared_with_its_parent(checkout: Repository) -> None:
    first, second = checkout.git("rev-parse", "HEAD"), checkout.commit("two")
    start, end = sources.ends("", "HEAD")
    assert (start.commit, end.commit) == (first, second)
    assert start.words.endswith("its parent")
    with pytest.raises(IntentError, match="has no parent"):
        sources.ends("", first)


@pytest.mark.parametrize("word", ["nope", "--all", "HEAD:Chart.yaml", "HEAD~9"])
def test_what_git_does_not_know_is_told(checkout: Repository, word: str) -> None:
    with pytest.raises(IntentError, match="Git knows no commit"):
        sources.ends(word, "")


def test_without_main_or_git_it_says_so(checkout: Repository, tmp_path: Path) -> None:
    checkout.git("branch", "--move", "trunk")
    with pytest.raises(IntentError, match="no main branch"):
        sources.ends("", "")
    checkout.root.joinpath(".git").rename(tmp_path / "git")
    with pytest.raises(IntentError, match="no checkout of Git"):
        sources.ends("", "")


def test_a_tree_is_taken_out_of_git_and_gone_afterwards(checkout: Repository) -> None:
    first = checkout.git("rev-parse", "HEAD")
    checkout.write("Chart.yaml", "{apiVersion: v2, name: c, version: 0.2.0}\n")
    before = checkout.git("status", "--porcelain")
    with sources.trees(first, "") as (old, new):
        assert "0.1.0" in (old.root / "Chart.yaml").read_text()
        assert "0.2.0" in (new.root / "Chart.yaml").read_text()
        assert new.root == checkout.root
        assert old.namespace("local") == "wiki-local"
        assert old.environments() == {"local"}
        place = old.root
    assert not place.exists()
    assert checkout.git("status", "--porcelain") == before
    assert checkout.git("worktree", "list").count("\n") == 0


def test_a_commit_from_before_the_chart_is_told(checkout: Repository) -> None:
    checkout.git("rm", "--quiet", "Chart.yaml")
    bare = checkout.commit("no chart")
    with pytest.raises(IntentError, match="there is no chart in"), sources.trees(bare, ""):
        pass


def test_an_environment_is_known_at_either_end(checkout: Repository) -> None:
    checkout.git("rm", "--quiet", "-r", "values/generated/local")
    checkout.write("values/envs/prod.yaml", "{cluster: small}\n")
    checkout.commit("gone")
    with sources.trees("HEAD~1", "HEAD") as both:
        assert sources.environments(both) == ["local"]
        assert sources.environments(both, "local") == ["local"]
        with pytest.raises(UndecidedError, match="decisions --env prod"):
            sources.environments(both, "prod")
        with pytest.raises(IntentError, match="allowed: local"):
            sources.environments(both, "nope")


def test_what_helm_refuses_names_the_end(checkout: Repository) -> None:
    checkout.write("templates/a.yaml", '{{ fail "no" }}\n')
    checkout.commit("broken")
    with (
        sources.trees("HEAD~1", "HEAD") as (_old, new),
        pytest.raises(IntentError, match=r"the chart of HEAD, .* \(broken\) does not render for"),
    ):
        new.objects("local")


ENTRY = "flux/clusters/main"


def kustomization(**fields: list[str]) -> str:
    return yaml.safe_dump(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}
    )


def flux_part(name: str, path: str) -> str:
    about = {"name": name, "namespace": "flux-system"}
    api = "kustomize.toolkit.fluxcd.io/v1"
    part = {"apiVersion": api, "kind": "Kustomization", "metadata": about, "spec": {"path": path}}
    return yaml.safe_dump(part, explicit_start=True)


def namespace(name: str) -> str:
    return f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n"


def files_of(checkout: Repository) -> list[tuple[str, str]]:
    tree = sources.Tree(checkout.root, sources.End("", "here"))
    return [(item["kind"], item["metadata"]["name"]) for item in tree.files()]


def test_what_flux_is_led_to_is_read_and_nothing_else(checkout: Repository) -> None:
    checkout.write(f"{ENTRY}/kustomization.yaml", kustomization(resources=["parts.yaml"]))
    parts = [flux_part("one", "./flux/infra/one"), flux_part("of-others", "./config/crd")]
    checkout.write(f"{ENTRY}/parts.yaml", "".join(parts))
    checkout.write(
        "flux/infra/one/kustomization.yaml",
        kustomization(
            resources=["one.yaml", "https://example.org/far"], components=["../../release"]
        ),
    )
    checkout.write("flux/infra/one/one.yaml", namespace("one"))
    checkout.write("flux/infra/one/unnamed.yaml", namespace("unnamed"))
    checkout.write("flux/infra/two/two.yaml", namespace("two"))
    patch = {"patches": [{"path": "patch.yaml"}]}
    checkout.write("flux/release/kustomization.yaml", yaml.safe_dump(patch))
    checkout.write("flux/release/patch.yaml", namespace("any"))
    checkout.write("values/generated/main/longhorn.yaml", "{replicas: 1}\n")
    assert files_of(checkout) == [
        ("Kustomization", "one"),
        ("Kustomization", "of-others"),
        ("Namespace", "one"),
        ("Namespace", "any"),
        ("Values", "main/longhorn"),
    ]


def test_a_folder_without_a_kustomization_is_read_whole_as_flux_does(checkout: Repository) -> None:
    checkout.write(f"{ENTRY}/a/one.yaml", namespace("one"))
    checkout.write(f"{ENTRY}/parts.yaml", flux_part("up", "./../../.."))
    assert files_of(checkout) == [("Namespace", "one"), ("Kustomization", "up")]


def test_a_file_for_flux_that_is_no_yaml_or_nowhere_is_named(checkout: Repository) -> None:
    checkout.write(f"{ENTRY}/broken.yaml", "a: [\n")
    with pytest.raises(IntentError, match=rf"{ENTRY}/broken.yaml: not YAML"):
        files_of(checkout)
    checkout.write(f"{ENTRY}/kustomization.yaml", kustomization(resources=["none.yaml"]))
    with pytest.raises(IntentError, match=rf"{ENTRY}/kustomization.yaml: it names none.yaml"):
        files_of(checkout)


def test_the_tree_of_this_repository_is_read_as_far_as_it_is_installed() -> None:
    tree = sources.Tree(repo.ROOT, sources.End("", "here"))
    found = {item["metadata"]["name"] for item in tree.files() if item["kind"] == "HelmRelease"}
    cluster_facts = intent.load_cluster("main")
    assert len(gitops.releases(cluster_facts)) >= 4
    rooms = {f"netpol-{namespace}" for namespace in gitops.rooms(cluster_facts)}
    assert len(rooms) >= 4
    assert found == {*gitops.releases(cluster_facts), *rooms, "xwiki-stack-staging", "any"}
