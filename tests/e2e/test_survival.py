"""What was written stays: over a deleted pod and a killed database (a node: test_nodes.py)."""

import hashlib
import os

import pytest

from tests.e2e.conftest import Bed, life, restarts, settled
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki

PICTURE = os.urandom(300_000)


@pytest.fixture(scope="module")
def written(wiki: Wiki) -> str:
    """A page with an attachment; gives the attachment's SHA-256."""
    wiki.write("Survival", "written before the harm")
    assert wiki.attach("Survival", "picture.bin", PICTURE) in (201, 202)
    return hashlib.sha256(PICTURE).hexdigest()


def intact(wiki: Wiki, digest: str) -> bool:
    """Page and attachment are served as they were written."""
    answer = wiki.attachment("Survival", "picture.bin")
    assert hashlib.sha256(answer.content).hexdigest() == digest, answer.status_code
    return wiki.shows("Survival", "written before the harm")


def test_a_changed_attachment_would_be_noticed(wiki: Wiki, written: str) -> None:
    """The counter-example: other bytes have another checksum."""
    assert wiki.attach("Survival", "other.bin", PICTURE[:-1]) in (201, 202)
    other = wiki.attachment("Survival", "other.bin").content
    assert hashlib.sha256(other).hexdigest() != written


@pytest.mark.parametrize("component", ["xwiki", "mysql"])
def test_page_and_attachment_survive_a_deleted_pod(
    bed: Bed, wiki: Wiki, written: str, component: str
) -> None:
    pod = bed.pod(wiki.namespace, component)
    bed.kubectl("delete", "pod", "-n", wiki.namespace, pod["metadata"]["name"], "--wait=true")
    eventually(lambda: settled(bed, wiki.namespace), seconds=180)
    eventually(lambda: intact(wiki, written), seconds=120)
    assert bed.pod(wiki.namespace, component)["metadata"]["uid"] != pod["metadata"]["uid"]


def test_they_survive_a_database_killed_without_warning(bed: Bed, wiki: Wiki, written: str) -> None:
    pod, before = bed.pod(wiki.namespace, "mysql"), bed.pod(wiki.namespace, "xwiki")
    # Accepted means durable, however short a time ago it was.
    wiki.write("Survival", "written just before the kill", space="LastWords")
    bed.signal(pod, "KILL")
    eventually(lambda: restarts(bed.pod(wiki.namespace, "mysql")) > restarts(pod), seconds=60)
    eventually(lambda: settled(bed, wiki.namespace), seconds=120)
    eventually(lambda: intact(wiki, written), seconds=120)
    assert "written just before the kill" in wiki.read("Survival", space="LastWords").text
    after = bed.pod(wiki.namespace, "xwiki")
    assert life(after) == life(before), "the wiki was restarted because its database died"
