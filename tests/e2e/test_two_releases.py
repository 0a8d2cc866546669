"""Two environments on one cluster, as staging and production are, do not meet."""

from collections.abc import Callable

from tests.e2e.conftest import LIGHT, Bed, settled
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import render

Values = Callable[..., list[render.Values]]


def test_a_second_release_in_a_second_namespace_has_a_database_of_its_own(
    bed: Bed, wiki: Wiki, secrets: str, values: Values
) -> None:
    wiki.write("OnlyHere", "of the first wiki")
    bed.release(secrets).install(values(LIGHT))
    eventually(lambda: settled(bed, secrets), seconds=240)
    pod = bed.pod(secrets, "xwiki")
    address = "http://localhost:8080/rest/wikis/xwiki/spaces/{}/pages/{}"
    words = ["exec", "-n", secrets, pod["metadata"]["name"], "-c", "xwiki", "--", "curl", "-s"]
    code = ["-o", "/dev/null", "-w", "%{http_code}"]

    def status(space: str, page: str) -> str:
        return bed.kubectl(*words, *code, address.format(space, page)).out.strip()

    assert eventually(lambda: status("Main", "WebHome") == "200", seconds=120)
    assert status("Tests", "OnlyHere") == "404"
    assert wiki.shows("OnlyHere", "of the first wiki")
    owned = {
        item["spec"].get("volumeName")
        for namespace in (secrets, wiki.namespace)
        for item in bed.kube.every("PersistentVolumeClaim", namespace)
    }
    assert len(owned) == 4, "two releases share a volume"
