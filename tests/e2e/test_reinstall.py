"""Taking the release away keeps both claims, and putting it back finds the data."""

from collections.abc import Callable

from tests.e2e.conftest import WIKI_PORT, Bed
from tests.e2e.wiki import Wiki
from xwiki_stack import render

Values = Callable[..., list[render.Values]]


def test_an_uninstalled_wiki_comes_back_with_its_pages(bed: Bed, wiki: Wiki) -> None:
    wiki.write("Reinstall", "still here")
    assert wiki.attach("Reinstall", "file.txt", b"attached") in (201, 202)
    before = claims(bed, wiki)
    assert len(before) == 2
    bed.release(wiki.namespace).uninstall()
    assert bed.release(wiki.namespace).state() == ""
    assert claims(bed, wiki) == before, "a claim went with the release"
    answer = bed.cli("up", "--port", str(WIKI_PORT))
    assert answer.returncode == 0, answer.stderr
    assert claims(bed, wiki) == before
    assert wiki.shows("Reinstall", "still here")
    assert wiki.attachment("Reinstall", "file.txt").content == b"attached"


def test_the_claims_are_kept_because_the_chart_says_so(bed: Bed, wiki: Wiki) -> None:
    """What the test above relies on, seen on the objects themselves."""
    claim = bed.kube.get("PersistentVolumeClaim", "xwiki-stack-xwiki-data", wiki.namespace)
    assert claim is not None
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    mysql = bed.kube.get("StatefulSet", "xwiki-stack-mysql", wiki.namespace)
    assert mysql is not None
    kept = mysql["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def claims(bed: Bed, wiki: Wiki) -> dict[str, str]:
    """Claim names and the volumes they are bound to."""
    return {
        claim["metadata"]["name"]: claim["spec"]["volumeName"]
        for claim in bed.kube.every("PersistentVolumeClaim", wiki.namespace)
    }
