"""A site of a chosen size, the same every time: words that compress, bytes that do not."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORDS = 5000
"""Different words of the made-up language, about as many as a team's wiki uses often."""

TEXT_SHARE = 0.3
"""Of files: drafts, logs, SVG, CSV. The rest are images and office files, packed already."""

SIGMA = 1.3
"""Of sizes, whose logarithm is normal: most files are small, most bytes lie in few."""


@dataclass(frozen=True)
class Size:
    """How much is made and how often it is measured. Bytes."""

    name: str
    sql: int
    files: int
    count: int
    runs: int
    days: int


SIZES = {
    size.name: size
    for size in (
        Size("small", sql=20_000_000, files=20_000_000, count=200, runs=1, days=8),
        Size("full", sql=1_000_000_000, files=1_000_000_000, count=5_000, runs=3, days=30),
    )
}


class Content:
    """Makes texts and files from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - the same every time is what is wanted
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = [26 - place for place in range(26)]
        self._words = [
            "".join(self._chance.choices(letters, weights, k=self._chance.randrange(2, 11)))
            for _ in range(WORDS)
        ]
        # As often as their rank is small (Zipf), so that a text compresses about as prose does.
        total, self._often = 0.0, list[float]()
        for rank in range(1, WORDS + 1):
            total += 1 / rank
            self._often.append(total)

    def text(self, size: int) -> str:
        """About so many characters of words."""
        count = max(1, size // 6)
        return " ".join(self._chance.choices(self._words, cum_weights=self._often, k=count))

    def sizes(self, count: int, total: int) -> list[int]:
        """Sizes of files that sum to about `total` bytes."""
        drawn = [self._chance.lognormvariate(0, SIGMA) for _ in range(count)]
        whole = sum(drawn)
        return [max(200, int(part / whole * total)) for part in drawn]

    def bytes(self, size: int) -> bytes:
        """A file's content: words or noise."""
        if self._chance.random() < TEXT_SHARE:
            text = self.text(size).encode()
            return text[:size].ljust(size, b" ")
        return self._chance.randbytes(size)

    def choose(self, items: list[Path], count: int) -> list[Path]:
        """Some of them, none twice."""
        return self._chance.sample(items, count)

    def pages(self, total: int) -> Iterator[tuple[int, str, str]]:
        """Number, text and older text of pages until they sum to `total` characters."""
        made, number = 0, 0
        while made < total:
            now = self.text(self._chance.randrange(500, 6000))
            # A history holds whole pages and differences: somewhat more than what stands there now.
            before = self.text(self._chance.randrange(1000, 9000))
            made += len(now) + len(before)
            number += 1
            yield number, now, before
