"""From seconds and bytes of runs to figures: medians, ratios, goals reached or missed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xwiki_stack import repo
from xwiki_stack.figures import Document, Figure

DOCUMENT = Document(
    results=repo.ROOT / "docs" / "results" / "backups.json",
    page=repo.ROOT / "docs" / "benchmarks-backups.md",
    head=(
        "# Benchmarks of backups",
        "",
        "Written by `make bench-backups` from `docs/results/backups.json`; do not edit. No test",
        "depends on these figures. What stands under one title was measured in one run, ours and",
        "peers in turn; figures are medians. A goal that is missed stays here, with what is in",
        "the way in [decision 0008](decisions/0008-backup-sets.md). XWiki is the stand-in, so the",
        "time of its start says little about the real one's.",
    ),
    blocks={"engine": repo.ROOT / "docs" / "decisions" / "0008-backup-sets.md"},
)


@dataclass(frozen=True)
class Goal:
    """A ratio, ours to the peer's, that we want: `least` or `most` of it; 0 is no bound."""

    least: float = 0.0
    most: float = 0.0

    def judged(self, ratio: float) -> str:
        """The goal in words, and whether the ratio reaches it."""
        held = ratio >= self.least and (not self.most or ratio <= self.most)
        words = f">= {self.least:g}" if self.least else f"<= {self.most:g}"
        return f"{words}: {'reached' if held else 'MISSED'}"


NONE = Goal()


def compared(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    against: str,
    words: Callable[[float], str],
    *,
    goal: Goal = NONE,
) -> Figure:
    """Ours against a peer's, run by run. `words` writes one value with its unit.

    The ratio is that of the medians; its spread is that of the runs, each with its own pair.
    """
    ratio = statistics.median(ours) / statistics.median(peer)
    pairs = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    return Figure(
        name,
        words(statistics.median(ours)),
        f"{against} {words(statistics.median(peer))}",
        f"{ratio:.2f}",
        goal.judged(ratio) if goal != NONE else "",
        f"{words(min(ours))} to {words(max(ours))}; ratio {min(pairs):.2f} to {max(pairs):.2f}"
        if len(ours) > 1
        else "",
    )


def alone(name: str, ours: Sequence[float], words: Callable[[float], str]) -> Figure:
    """A figure without a peer."""
    spread = f"{words(min(ours))} to {words(max(ours))}" if len(ours) > 1 else ""
    return Figure(name, words(statistics.median(ours)), spread=spread)


def bounded(
    name: str, ours: Sequence[float], limit: float, words: Callable[[float], str]
) -> Figure:
    """A figure that is to stay below a limit in every run, so the worst one counts."""
    worst = max(ours)
    judged = f"<= {words(limit)}: {'reached' if worst <= limit else 'MISSED'}"
    spread = f"{words(min(ours))} to {words(worst)}" if len(ours) > 1 else ""
    return Figure(name, words(worst), goal=judged, spread=spread)


def seconds(value: float) -> str:
    """12.3 s."""
    return f"{value:.1f} s"


def minutes(value: float) -> str:
    """Seconds as minutes: 41 min."""
    return f"{value / 60:.0f} min"


def speed(value: float) -> str:
    """Bytes a second in MB/s (10^6)."""
    return f"{value / 1e6:.1f} MB/s"


def megabytes(value: float) -> str:
    """Bytes in MB (10^6)."""
    return f"{value / 1e6:.1f} MB"


def octets(value: float) -> str:
    """Bytes that should be few: 4096 B."""
    return f"{value:.0f} B"


def mebibytes(value: float) -> str:
    """Bytes in MiB (2^20), as memory is counted."""
    return f"{value / 2**20:.0f} MiB"
