"""Figures as documents: measured results as JSON, and the pages that are generated from them.

Each group of figures names the commit, machine and day of its own run, so that what is measured
again does not lend its freshness to what is not.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.errors import MachineError


@dataclass(frozen=True)
class Figure:
    """One measured figure; `goal` and `peer` are what it is held against, '' where nothing is.

    `spread`: least and most of the runs behind it, where there were several.
    """

    name: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    spread: str = ""


@dataclass(frozen=True)
class Group:
    """Figures of one run: of which commit, on which machine, on which day (UTC).

    `circumstances`: what else a reader must know: size of the data, load of the machine.
    """

    commit: str
    machine: str
    date: str
    figures: list[Figure]
    circumstances: str = ""


@dataclass(frozen=True)
class Document:
    """A file of results and what is generated from it.

    `head`: the lines above the tables. `blocks`: group to a page that repeats its table between
    two marks.
    """

    results: Path
    page: Path
    head: tuple[str, ...]
    blocks: Mapping[str, Path]

    def read(self) -> dict[str, Group]:
        """The groups of earlier runs, by name."""
        found = json.loads(self.results.read_text()) if self.results.exists() else {}
        return {
            name: Group(**{**group, "figures": [Figure(**item) for item in group["figures"]]})
            for name, group in found.items()
        }

    def write(self, groups: Mapping[str, Group]) -> None:
        """Write the results and all that is generated from them."""
        self.results.parent.mkdir(parents=True, exist_ok=True)
        document = {name: asdict(group) for name, group in groups.items()}
        self.results.write_text(json.dumps(document, indent=2) + "\n")
        for path, text in self.pages(groups).items():
            path.write_text(text)

    def pages(self, groups: Mapping[str, Group]) -> dict[Path, str]:
        """Each generated file and what it is to hold."""
        found = {self.page: self.text(groups)}
        for name, path in self.blocks.items():
            if name in groups:
                found[path] = embedded(path.read_text(), name, table(groups[name]))
        return found

    def text(self, groups: Mapping[str, Group]) -> str:
        """The page out of the results."""
        lines = [*self.head]
        for name, group in groups.items():
            lines += ["", f"## {name}", "", *table(group)]
        return "\n".join(lines) + "\n"

    def measured(self, figures: list[Figure], circumstances: str = "") -> Group:
        """A group of this commit, machine and day."""
        found = origin(self.results, self.page, *self.blocks.values())
        return Group(*found, figures, circumstances)


def origin(*own: Path) -> tuple[str, str, str]:
    """Commit (own: as in `commit`), machine and day (UTC) of what is measured or tried now.

    To be asked for at the beginning: whoever works on meanwhile changes nothing of what is tried.
    """
    return commit(*own), machine(), datetime.now(UTC).date().isoformat()


def commit(*own: Path) -> str:
    """What is measured: a commit, and whether the checkout differs; `unknown` without Git.

    own: files that the run itself writes; our output of a moment ago is no difference.
    """
    git = ["git", "--no-optional-locks"]
    try:
        named = proc.run([*git, "rev-parse", "--short=12", "HEAD"], cwd=repo.ROOT, check=False)
    except MachineError:
        return "unknown"
    if named.code != 0:
        return "unknown"
    left_out = [f":!{repo.relative(path)}" for path in own]
    status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *left_out]
    dirty = proc.run(status, cwd=repo.ROOT).out.strip()
    return named.out.strip() + (" with uncommitted changes" if dirty else "")


def table(group: Group) -> list[str]:
    """The lines of a group: whose figures they are, then the figures."""
    about = f"Commit {group.commit}, {group.date}, on {group.machine}."
    titles = ["figure", "ours", "against", "ratio", "goal"]
    spread = any(figure.spread for figure in group.figures)
    titles += ["least to most"] if spread else []
    lines = [f"{about} {group.circumstances}".strip(), ""]
    lines += ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for figure in group.figures:
        cells = [figure.name, figure.ours, figure.peer, figure.ratio, figure.goal]
        cells += [figure.spread] if spread else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def embedded(text: str, name: str, lines: Sequence[str]) -> str:
    """A page with lines between the marks of a name. Raises ValueError where they are missing."""
    begin, end = f"<!-- figures: {name} -->\n", "<!-- end of figures -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"there is no {begin.strip()} ... {end}")
    return before + begin + "\n".join(lines) + "\n" + end + after


def machine() -> str:
    """Processors and system of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = f"{len(models)} x {models[0].split(':')[1].strip()}" if models else cpu
    return f"{cpu}, {platform.system()} {platform.release().split('-')[0]}"


def keep(known: Sequence[str], groups: Mapping[str, Group]) -> dict[str, Group]:
    """The groups that can still be measured, in the order of `known`."""
    return {name: groups[name] for name in known if name in groups}
