"""A database that is dead or hangs is explained, and never restarts the wiki.

The wiki's liveness probe is made impatient here, so that an outage of seconds is longer than it
bears: with a probe that asked the database the wiki would be restarted, which is shown too.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Bed, life, restarts, settled
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import render, status

Values = Callable[..., list[render.Values]]

PERIOD, FAILURES = 1, 3
LONGER = 4.0 * PERIOD * FAILURES
"""Seconds of an outage: four times what the liveness probe bears."""

IMPATIENT = {
    "xwiki": {
        "probes": {
            "liveness": {
                "periodSeconds": PERIOD,
                "timeoutSeconds": 1,
                "failureThreshold": FAILURES,
            }
        }
    }
}


@pytest.fixture(scope="module", autouse=True)
def _back_to_normal(bed: Bed, wiki: Wiki, values: Values) -> Iterator[None]:
    """The shared wiki has its generated values again after these tests."""
    yield
    bed.release(wiki.namespace).install(values())
    eventually(lambda: settled(bed, wiki.namespace), seconds=180)


@pytest.fixture
def impatient(bed: Bed, wiki: Wiki, values: Values) -> Wiki:
    """The shared wiki with an impatient liveness probe."""
    bed.release(wiki.namespace).install(values(IMPATIENT))
    eventually(lambda: settled(bed, wiki.namespace), seconds=180)
    return wiki


@contextmanager
def stopped(bed: Bed, wiki: Wiki) -> Iterator[None]:
    """No database at all: nothing listens on its port."""
    scale = ["scale", "statefulset", "xwiki-stack-mysql", "-n", wiki.namespace]
    bed.kubectl(*scale, "--replicas=0")
    try:
        eventually(lambda: not bed.pods(wiki.namespace, "mysql"), seconds=90)
        yield
    finally:
        bed.kubectl(*scale, "--replicas=1")
        eventually(lambda: settled(bed, wiki.namespace), seconds=180)


@contextmanager
def frozen(bed: Bed, wiki: Wiki) -> Iterator[None]:
    """A database that takes connections and never answers."""
    pod = bed.pod(wiki.namespace, "mysql")
    bed.signal(pod, "STOP")
    try:
        yield
    finally:
        bed.signal(pod, "CONT")


@pytest.mark.parametrize("outage", [stopped, frozen])
def test_an_outage_is_explained_and_does_not_restart_the_wiki(
    bed: Bed, impatient: Wiki, outage: Callable[[Bed, Wiki], Iterator[None]]
) -> None:
    before = life(bed.pod(impatient.namespace, "xwiki"))
    with outage(bed, impatient):  # type: ignore[attr-defined]
        time.sleep(LONGER)

        eventually(lambda: explained(bed, impatient), seconds=60)
        assert life(bed.pod(impatient.namespace, "xwiki")) == before
    eventually(lambda: healthy(bed, impatient), seconds=180)
    assert life(bed.pod(impatient.namespace, "xwiki")) == before


def explained(bed: Bed, wiki: Wiki) -> bool:
    """The diagnosis names the database: by its state, or by what was found about it."""
    report = status.diagnose(bed.kube, wiki.namespace, render.RELEASE)
    unready = [name for name, state in report.workloads if state != "ready"]
    return "StatefulSet xwiki-stack-mysql" in [*unready, *(f.subject for f in report.findings)]


def healthy(bed: Bed, wiki: Wiki) -> bool:
    """A page is served and nothing is wrong."""
    assert wiki.request("GET", "/bin/view/Main/WebHome").ok
    return status.diagnose(bed.kube, wiki.namespace, render.RELEASE).healthy


def test_a_probe_that_asks_the_database_would_restart_it(
    bed: Bed, impatient: Wiki, values: Values, chart_copy: Path
) -> None:
    """The counter-example: the same outage, the same patience, another path."""
    template = chart_copy / "charts" / "xwiki" / "templates" / "deployment.yaml"
    text = template.read_text()
    probe = text.index("livenessProbe:")
    asking = text[probe:].replace("path: /rest\n", "path: /rest/wikis/xwiki/spaces\n", 1)
    assert asking != text[probe:]
    template.write_text(text[:probe] + asking)
    release = replace(bed.release(impatient.namespace), chart=chart_copy)
    release.install(values(IMPATIENT))
    eventually(lambda: settled(bed, impatient.namespace), seconds=180)
    before = restarts(bed.pod(impatient.namespace, "xwiki"))
    with frozen(bed, impatient):
        eventually(lambda: restarts(bed.pod(impatient.namespace, "xwiki")) > before, seconds=90)
