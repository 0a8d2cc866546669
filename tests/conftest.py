"""How workers of pytest-xdist share the tests, and what reports say of a test."""

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import groups


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # the library is not typed
    """Hands out whole groups.

    Not `--dist loadgroup`: with pytest 9.2 its marks come to nothing, silently.
    """

    def _split_scope(self, nodeid: str) -> str:
        return groups.group(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test proves is written into every report on it, whichever way it ends."""
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Asked by pytest-xdist where there is more than one worker."""
    return GroupScheduling(config, log)
