"""The wiki's container and its Job: each may run again in place, and neither spoils anything."""

from collections.abc import Callable

from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import readiness, render
from xwiki_stack.kube import Manifest

HIBERNATE = "/usr/local/tomcat/webapps/ROOT/WEB-INF/hibernate.cfg.xml"


def inside(bed: Bed, wiki: Wiki, script: str) -> str:
    """Run a script in the wiki's container; what it says."""
    words = ["exec", "-n", wiki.namespace, "deploy/xwiki-stack-xwiki", "-c", "xwiki", "--"]
    return bed.kubectl(*words, "sh", "-c", script, check=False).out.strip()


def pod(bed: Bed, wiki: Wiki) -> Manifest:
    (found,) = bed.pods(wiki.namespace, "xwiki")
    return found


def test_a_container_that_restarts_in_its_pod_makes_its_configuration_anew(
    bed: Bed, wiki: Wiki
) -> None:
    """The files are on a volume that outlives the container: what an earlier start left is gone."""
    wiki.write("Process", "before the kill")
    before = pod(bed, wiki)
    restarts = before["status"]["containerStatuses"][0]["restartCount"]
    inside(bed, wiki, f"echo spoilt >{HIBERNATE}; kill -9 $(pgrep java)")

    def restarted() -> bool:
        status = pod(bed, wiki)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] > restarts and status["ready"])

    eventually(restarted, seconds=120)
    eventually(lambda: wiki.shows("Process", "before the kill"), seconds=60)
    assert pod(bed, wiki)["metadata"]["uid"] == before["metadata"]["uid"]
    assert "hibernate-configuration" in inside(bed, wiki, f"cat {HIBERNATE}")
    # The copies it is made from are still those of the image.
    pristine = "/run/xwiki-stack/pristine/hibernate.cfg.xml"
    assert inside(bed, wiki, f"grep -c replacepassword {pristine}") == "1"


def test_orphans_do_not_stay_as_zombies(bed: Bed, wiki: Wiki) -> None:
    """LibreOffice leaves such; Java as process 1 would keep each for ever."""
    said = inside(bed, wiki, "(sleep 1 &); sleep 3; ps -e -o stat= -o comm=")
    assert "java" in said
    assert [line for line in said.splitlines() if line.startswith("Z")] == []


def test_a_second_bootstrap_leaves_page_and_admin_as_they_are(
    bed: Bed, wiki: Wiki, values: Callable[..., list[render.Values]]
) -> None:
    wiki.write("WebHome", "written by a person", space="Main")
    before = bed.uids(wiki.namespace)
    again = {"bootstrap": {"title": "Another title", "content": "Another content"}}
    for chosen in (values({"xwiki": again}), values()):
        bed.release(wiki.namespace).install(chosen)
        eventually(lambda: made(bed, wiki), seconds=120)
        answer = wiki.read("WebHome", space="Main")
        assert "written by a person" in answer.text
        assert "Another title" not in answer.text
    assert wiki.request("GET", "/rest", auth=wiki.admin).headers["XWiki-User"].endswith("Admin")
    assert bed.uids(wiki.namespace) == before, "the bootstrap restarted the wiki"


def made(bed: Bed, wiki: Wiki) -> bool:
    """The one Job is the newest one, and it is done."""
    jobs = bed.kube.every("Job", wiki.namespace, f"app.kubernetes.io/instance={render.RELEASE}")
    assert [readiness.unready(job) for job in jobs] == [""]
    return True
