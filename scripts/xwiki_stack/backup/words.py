"""Moments, sizes and speeds, as documents and people read them."""

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """A moment as documents write it: 2026-11-26T05:30:00Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def size(count: int) -> str:
    """Bytes as a person reads them: 812 B, 4.2 MiB."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def rate(count: int, seconds: float) -> str:
    """Bytes per second as a person reads them."""
    return f"{size(int(count / max(seconds, 0.001)))}/s"
