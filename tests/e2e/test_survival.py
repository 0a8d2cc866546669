"""What was written stays: over a deleted pod, a killed database, a restarted node."""

import hashlib
import os

import pytest

from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import cluster, readiness

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


def ready(bed: Bed, wiki: Wiki, component: str) -> bool:
    kind = "StatefulSet" if component == "mysql" else "Deployment"
    found = bed.kube.get(kind, f"xwiki-stack-{component}", wiki.namespace)
    assert readiness.unready(found) == ""
    return True


def test_a_changed_attachment_would_be_noticed(wiki: Wiki, written: str) -> None:
    """The counter-example: other bytes have another checksum."""
    assert wiki.attach("Survival", "other.bin", PICTURE[:-1]) in (201, 202)
    other = wiki.attachment("Survival", "other.bin").content
    assert hashlib.sha256(other).hexdigest() != written


@pytest.mark.parametrize("component", ["xwiki", "mysql"])
def test_page_and_attachment_survive_a_deleted_pod(
    bed: Bed, wiki: Wiki, written: str, component: str
) -> None:
    (pod,) = bed.pods(wiki.namespace, component)
    bed.kubectl("delete", "pod", "-n", wiki.namespace, pod["metadata"]["name"], "--wait=true")
    eventually(lambda: ready(bed, wiki, component), seconds=180)
    eventually(lambda: intact(wiki, written), seconds=120)
    (new,) = bed.pods(wiki.namespace, component)
    assert new["metadata"]["uid"] != pod["metadata"]["uid"]


def test_they_survive_a_database_killed_without_warning(bed: Bed, wiki: Wiki, written: str) -> None:
    (pod,) = bed.pods(wiki.namespace, "mysql")
    wiki_before = bed.pods(wiki.namespace, "xwiki")[0]["metadata"]["uid"]
    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    node = pod["spec"]["nodeName"]
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    # From the node: a process cannot send SIGKILL to its own PID 1 inside the container.
    script = f"kill -9 $(ctr -n k8s.io tasks ls | awk '$1==\"{container}\" {{print $2}}')"
    cluster.on_node(bed.name, node, ["sh", "-c", script])

    def restarted() -> bool:
        (again,) = bed.pods(wiki.namespace, "mysql")
        return bool(again["status"]["containerStatuses"][0]["restartCount"] > restarts)

    eventually(restarted, seconds=60)
    eventually(lambda: ready(bed, wiki, "mysql"), seconds=120)
    eventually(lambda: intact(wiki, written), seconds=120)
    same = [p["metadata"]["uid"] for p in bed.pods(wiki.namespace, "xwiki")]
    assert wiki_before in same, "the wiki was restarted because its database died"


def test_they_survive_a_restart_of_the_node(bed: Bed, wiki: Wiki, written: str) -> None:
    cluster.restart_nodes(bed.name)
    eventually(lambda: ready(bed, wiki, "mysql"), seconds=240)
    eventually(lambda: ready(bed, wiki, "xwiki"), seconds=240)
    eventually(lambda: intact(wiki, written), seconds=120)
