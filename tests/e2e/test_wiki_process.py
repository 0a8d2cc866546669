"""The wiki's container and its Job: each may run again in place, and neither spoils anything."""

import copy
from collections.abc import Callable

import yaml

from tests.e2e.conftest import WIKI_PORT, Bed, restarts, settled
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import readiness, render
from xwiki_stack.kube import Manifest

HIBERNATE = "/usr/local/tomcat/webapps/ROOT/WEB-INF/hibernate.cfg.xml"


def inside(bed: Bed, wiki: Wiki, script: str) -> str:
    """Run a script in the wiki's container; what it says."""
    words = ["exec", "-n", wiki.namespace, "deploy/xwiki-stack-xwiki", "-c", "xwiki", "--"]
    return bed.kubectl(*words, "sh", "-c", script, check=False).out.strip()


def test_a_container_that_restarts_in_its_pod_makes_its_configuration_anew(
    bed: Bed, wiki: Wiki
) -> None:
    """The files are on a volume that outlives the container: what an earlier start left is gone."""
    wiki.write("Process", "before the kill")
    before = bed.pod(wiki.namespace, "xwiki")
    inside(bed, wiki, f"echo spoilt >{HIBERNATE}; kill -9 $(pgrep java)")

    def restarted() -> bool:
        return restarts(bed.pod(wiki.namespace, "xwiki")) > restarts(before)

    eventually(restarted, seconds=60)
    eventually(lambda: settled(bed, wiki.namespace), seconds=120)
    eventually(lambda: wiki.shows("Process", "before the kill"), seconds=60)
    assert bed.pod(wiki.namespace, "xwiki")["metadata"]["uid"] == before["metadata"]["uid"]
    assert "hibernate-configuration" in inside(bed, wiki, f"cat {HIBERNATE}")
    # The copies it is made from are still those of the image.
    pristine = "/run/xwiki-stack/pristine/hibernate.cfg.xml"
    assert inside(bed, wiki, f"grep -c replacepassword {pristine}") == "1"


def test_java_runs_with_the_heap_and_the_collector_that_the_values_derive(
    bed: Bed, wiki: Wiki, values: Callable[..., list[render.Values]]
) -> None:
    generated = yaml.safe_load(values()[0].read_text())  # type: ignore[union-attr]
    words = inside(bed, wiki, "tr '\\0' '\\n' </proc/$(pgrep java)/cmdline").split()
    assert [word for word in words if word.startswith("-Xmx")] == [
        f"-Xmx{generated['xwiki']['java']['heap']}"
    ]
    assert {"-XX:+UseG1GC", "-XX:MaxGCPauseMillis=200"} <= set(words)


def test_links_carry_the_scheme_and_host_of_the_visitor(wiki: Wiki) -> None:
    """Behind an ingress that ends TLS: what the deployed Tomcat is told by RemoteIpValve."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "wiki.example.org"}
    path = "/bin/export/Main/WebHome?format=xar"  # for admins: a visitor is sent to the login
    sent = wiki.request("GET", path, headers=told, allow_redirects=False).headers["Location"]
    assert sent.startswith("https://wiki.example.org/")
    plain = wiki.request("GET", path, allow_redirects=False).headers["Location"]
    assert "https" not in plain


def test_a_bootstrap_that_failed_is_explained_and_made_anew(bed: Bed, wiki: Wiki) -> None:
    """A Job that gave up would stay so for ever: its name follows from its unchanged spec."""
    (job,) = bed.kube.every("Job", wiki.namespace, f"app.kubernetes.io/instance={render.RELEASE}")
    before = bed.uids(wiki.namespace)
    bed.kube.delete("Job", job["metadata"]["name"], wiki.namespace, orphan=False)
    eventually(lambda: not bed.kube.get("Job", job["metadata"]["name"], wiki.namespace))
    bed.kube.apply(failing(job))

    def explained() -> bool:
        said = bed.cli("status")
        assert f"Job {job['metadata']['name']}: failed" in said.stdout
        return said.returncode == 5

    eventually(explained, seconds=60)
    answer = bed.cli("up", "--port", str(WIKI_PORT))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert made(bed, wiki)
    assert bed.uids(wiki.namespace) == before


def failing(job: Manifest) -> Manifest:
    """The same Job, with a script that gives up at once."""
    meta = {key: job["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    template = copy.deepcopy(job["spec"]["template"])
    # Those that the API server adds name the old Job.
    template["metadata"]["labels"] = {
        key: value
        for key, value in template["metadata"]["labels"].items()
        if key.startswith("app.kubernetes.io/")
    }
    template["spec"]["containers"][0]["command"] = ["bash", "-c", "exit 1"]
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


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
