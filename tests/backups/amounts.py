"""How much of what can be tried is tried: a sample in `make test`, all of it where asked for."""

import os

from xwiki_stack import faults

ALL = os.environ.get(faults.ALL) == "1"

FLIPS = 1000 if ALL else 24
"""Bits that are flipped, over all objects of a set."""

CUTS = 100 if ALL else 12
"""Cuts of every object of a set, at as many places of equal distance."""

KILLS = 20 if ALL else 3
"""Runs that are killed at a moment of their own."""

AWAY = 20.0 if ALL else 2.0
"""Seconds for which a store is away in the middle of an upload."""

POWER_CUTS = 4 if ALL else 1
"""Power cuts at a moment of their own."""
