"""Two environments on one cluster, as staging and production are, do not meet."""

from collections.abc import Callable

import requests

from tests.e2e.conftest import LIGHT, Bed, settled
from tests.e2e.inside import Inside
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
    second = Inside(bed, secrets)
    assert second.write("OnlyThere") == "201"
    assert second.status("OnlyThere") == "200"
    assert second.status("OnlyHere") == "404"
    assert wiki.read("OnlyThere").status_code == requests.codes.not_found
    assert wiki.shows("OnlyHere", "of the first wiki")
    owned = {
        item["spec"].get("volumeName")
        for namespace in (secrets, wiki.namespace)
        for item in bed.kube.every("PersistentVolumeClaim", namespace)
    }
    assert len(owned) == 4, "two releases share a volume"
