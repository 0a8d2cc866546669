"""The two trees of a review: which they are, what they render to, gone when it is over.

A commit is taken out of Git into a temporary folder; the working tree is rendered where it lies.
Nothing in the checkout is written.
"""

import contextlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from xwiki_stack import loader, proc, render, repo
from xwiki_stack.errors import IntentError, UndecidedError
from xwiki_stack.policy import Manifest
from xwiki_stack.review.changes import FILE

MAIN = ("origin/main", "main")
"""Where a review begins when nobody says: what others have, else what this checkout calls so."""

FLUX = "flux"
"""Name of the comparison that holds the files Flux reads, and their folder."""

NO_OBJECTS = {"kustomize.config.k8s.io"}
"""API groups of files that are no objects of a cluster."""


@dataclass(frozen=True)
class End:
    """One end of a review: a commit, or the working tree where `commit` is empty."""

    commit: str
    words: str


@dataclass(frozen=True)
class Tree:
    """The files of one end."""

    root: Path
    end: End

    def environments(self) -> set[str]:
        """Environments with committed values."""
        return {path.parent.name for path in self.root.glob("values/generated/*/xwiki-stack.yaml")}

    def values(self, env: str) -> Path:
        """The committed values of an environment."""
        return self.root / "values" / "generated" / env / "xwiki-stack.yaml"

    def namespace(self, env: str) -> str:
        """Where an environment's release goes: <project>-<environment>.

        Read without the checks of `intent`, which knows today's schema only.
        """
        intent = _mapping(self.root / "values" / "envs" / f"{env}.yaml")
        cluster = _mapping(self.root / "values" / "clusters" / f"{intent.get('cluster')}.yaml")
        return f"{cluster.get('project', 'wiki')}-{env}"

    def objects(self, env: str) -> list[Manifest]:
        """What the chart and the committed values of an environment render to; none without them.

        Raises IntentError, naming this end, when Helm refuses them.
        """
        if not self.values(env).is_file():
            return []
        try:
            return render.helm_template(
                self.root, [self.values(env)], namespace=self.namespace(env)
            )
        except IntentError as refused:
            raise IntentError(
                f"the chart of {self.end.words} does not render for {env}: {refused.what}",
                next="correct it, or name another end with --from and --to",
            ) from refused

    def files(self) -> list[Manifest]:
        """The objects in the files that Flux takes, and the values of releases that are not ours.

        Raises IntentError for what is not YAML, and for a kustomization that names what is nowhere.
        """
        found: list[Manifest] = []
        for path in self._taken():
            found += objects_in(path, self._name(path))
        for path in sorted((self.root / "values" / "generated").glob("*/*.yaml")):
            if path.name != "xwiki-stack.yaml":
                meta = {"name": f"{path.parent.name}/{path.stem}"}
                found.append({"kind": "Values", "metadata": meta, "values": _mapping(path)})
        return found

    def _taken(self) -> list[Path]:
        """The files that the entries of the clusters lead to, by name; patches are among them.

        What lies elsewhere, in another source of Flux or behind an address, is not read.
        """
        top = self.root.resolve()
        waiting = list((top / FLUX / "clusters").glob("*/"))
        seen: set[Path] = set()
        while waiting:
            path = waiting.pop().resolve()
            if path in seen or not path.is_relative_to(top):
                continue
            seen.add(path)
            if path.is_dir():
                waiting += self._named_in(path)
                continue
            for item in objects_in(path, self._name(path)):
                part = top / str((item.get("spec") or {}).get("path", ""))
                if item["kind"] == "Kustomization" and part.is_dir():
                    waiting.append(part)
        return sorted(path for path in seen if path.is_file())

    def _named_in(self, folder: Path) -> list[Path]:
        """What a folder's kustomization names; without one all of it, as Flux does."""
        about = folder / "kustomization.yaml"
        if not about.is_file():
            return sorted(folder.rglob("*.yaml"))
        (document,) = _documents(about, self._name(about)) or [{}]
        names = [*document.get("resources", ()), *document.get("components", ())]
        names += [patch["path"] for patch in document.get("patches", ()) if "path" in patch]
        here = [folder / name for name in names if "://" not in name]
        for path in here:
            if not path.exists():
                raise IntentError(
                    f"it names {path.relative_to(folder)}, which is not there",
                    where=self._name(about),
                    next="correct it",
                )
        return here

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root.resolve()).as_posix()


@contextlib.contextmanager
def trees(start: str, end: str) -> Iterator[tuple[Tree, Tree]]:
    """Both trees; '' for `start` is where the work left main, for `end` the working tree.

    Raises IntentError for what Git does not know, or a checkout without Git.
    """
    first, second = ends(start, end)
    with TemporaryDirectory(prefix="xwiki-stack-review-") as folder:
        yield _tree(first, Path(folder) / "from"), _tree(second, Path(folder) / "to")


def ends(start: str, end: str) -> tuple[End, End]:
    """What a review compares, in words a reader knows.

    Without `start`: the commit where `end` left main. An `end` that main holds already left it
    nowhere: its parent, which makes a review of that one commit.
    """
    _require_git()
    second = End(commit_of(end), _words(end)) if end else End("", "the working tree")
    if start:
        return End(commit_of(start), _words(start)), second
    tip = second.commit or commit_of("HEAD")
    base, main = _base(tip)
    if base == tip and end:
        parent = _git("rev-parse", "--verify", "--quiet", f"{tip}^", check=False).out.strip()
        if not parent:
            raise IntentError(f"{end} has no parent to compare it with", next="name --from")
        return End(parent, f"{_words(parent)}, its parent"), second
    return End(base, f"{_words(base)}, where it left {main}"), second


def environments(trees: tuple[Tree, Tree], asked: str = "") -> list[str]:
    """The environments to compare: those with committed values at either end, or the one asked for.

    Raises UndecidedError for one that has an intent and no values yet, IntentError for an unknown.
    """
    found = sorted(trees[0].environments() | trees[1].environments())
    if not asked:
        return found
    if asked in found:
        return [asked]
    if any((tree.root / "values" / "envs" / f"{asked}.yaml").is_file() for tree in trees):
        raise UndecidedError(
            f"{asked} has no committed values at either end, so nothing of it can be compared",
            next=f"`xwiki-stack decisions --env {asked}` says what it waits for",
        )
    raise IntentError(
        f"there is no environment {asked!r}",
        where="values/generated",
        allowed=", ".join(found),
        next="name one of them, or none for all",
    )


def commit_of(reference: str) -> str:
    """The commit that a word of Git means. Raises IntentError when it means none."""
    word = f"{reference}^{{commit}}"
    asked = _git("rev-parse", "--verify", "--quiet", "--end-of-options", word, check=False)
    if asked.code != 0:
        raise IntentError(
            f"Git knows no commit {reference!r} here",
            allowed="a branch, a tag, a hash, HEAD~1 ...",
            next="`git fetch` brings what others have",
        )
    return asked.out.strip()


def _base(tip: str) -> tuple[str, str]:
    """Where a commit left main, and what main is called here."""
    for main in MAIN:
        found = _git("merge-base", main, tip, check=False)
        if found.code == 0:
            return found.out.strip(), main
    raise IntentError(
        "there is no main branch to compare with", next="name the other end: --from REF"
    )


def _words(reference: str) -> str:
    said = _git("log", "-1", "--format=%h (%s)", "--end-of-options", reference).out.strip()
    short = said.partition(" ")[0]
    return said if reference.startswith(short) else f"{reference}, {said}"


def _tree(end: End, folder: Path) -> Tree:
    if not end.commit:
        return Tree(repo.ROOT, end)
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    _git("archive", "--output", str(archive), end.commit)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    if not (folder / "Chart.yaml").is_file():
        raise IntentError(
            f"there is no chart in {end.words}", next="name a younger commit with --from or --to"
        )
    return Tree(folder, end)


def _git(*words: str, check: bool = True) -> proc.Result:
    return proc.run(["git", "-C", repo.ROOT, *words], check=check)


def _require_git() -> None:
    if _git("rev-parse", "--git-dir", check=False).code != 0:
        raise IntentError(
            "this is no checkout of Git, and a review compares commits",
            where=str(repo.ROOT),
            next="clone the repository",
        )


def objects_in(path: Path, name: str) -> Iterator[Manifest]:
    """The objects of a file, each with a note of where it was.

    Raises IntentError for what is not YAML.
    """
    for item in _documents(path, name):
        if not isinstance(item, dict) or not item.get("kind"):
            continue
        meta = item.get("metadata") or {}
        group = str(item.get("apiVersion", "")).partition("/")[0]
        if group in NO_OBJECTS or not meta.get("name"):
            continue
        notes = {**(meta.get("annotations") or {}), FILE: name}
        yield {**item, "metadata": {**meta, "annotations": notes}}


def _documents(path: Path, name: str) -> list[Any]:
    try:
        return list(yaml.load_all(path.read_text(), Loader=loader.LoneSign))
    except yaml.YAMLError as broken:
        said = " ".join(str(broken).split())
        raise IntentError(f"not YAML: {said}", where=name, next="correct it") from broken


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}
