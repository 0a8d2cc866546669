"""The standard flavor as the chart has it installed: by its own variables and its own scripts.

Without questions, and without a wizard for visitors before, during or after it; at its end stands
the admin. On the real image `online` needs the internet; the archive that this file makes is one
for the stand-in alone.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import UNPRIVILEGED, Hardening, Start
from tests.contract.containers import Host
from tests.contract.wiki import SUPERADMIN, VOLUME, Schema, Wiki
from tests.e2e.patience import eventually
from xwiki_stack import proc, render, repo

CHART = repo.ROOT / "charts" / "xwiki"
FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki"
ADMIN = ("Admin", "Admin7password")
SECRET = {
    "superadmin-password": SUPERADMIN[1],
    "admin-password": ADMIN[1],
    "validation-key": "v" * 32,
    "encryption-key": "e" * 32,
}


class Release:
    """The chart with a flavor, without Kubernetes: what its containers are told and do."""

    def __init__(self, flavor: str, host: Host, image: str, schema: Schema, folder: Path) -> None:
        self.host, self.image, self.schema = host, image, schema
        self.data = host.volume(image, VOLUME)
        self.secret, self.archives = folder / "secret", folder / "archives"
        for made in (self.secret, self.archives):
            made.mkdir()
        for name, value in {**SECRET, "password": schema.password}.items():
            (self.secret / name).write_text(value)
        values = {
            "flavor": flavor,
            "xip": {"claim": "archives", "path": "/xip/flavor.xip"},
            "java": {"heap": "1024m"},
            "database": {"host": "database", "name": schema.name, "user": schema.name},
        }
        self.objects = render.helm_template(CHART, [values])

    def _object(self, kind: str, name: str = "") -> dict[str, Any]:
        (found,) = [
            item
            for item in self.objects
            if item["kind"] == kind and name in ("", item["metadata"]["name"])
        ]
        return found

    def environment(self, kind: str, container: str) -> dict[str, str]:
        """The variables of a container, with what they refer to put in."""
        pod = self._object(kind)["spec"]["template"]["spec"]
        containers = [*pod["containers"], *pod.get("initContainers", [])]
        (variables,) = [one["env"] for one in containers if one["name"] == container]
        return {item["name"]: self._value(item) for item in variables}

    def _value(self, variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        ((kind, source),) = variable["valueFrom"].items()
        if kind == "secretKeyRef":
            return SECRET[source["key"]]
        return str(self._object("ConfigMap", source["name"])["data"][source["key"]])

    def start(self, start: Start, hardening: Hardening) -> Wiki:
        """The wiki, by the image's own entrypoint."""
        password = f"{self.secret}/password:/etc/xwiki-stack/database/password:ro"
        return start(
            self.schema,
            # The chart gives the password as a file, which excludes the variable.
            env={"DB_PASSWORD": "", **self.environment("Deployment", "xwiki")},
            options=[*hardening(volume=self.data), "-v", password],
        )

    def _run(self, script: str, env: dict[str, str], *mounts: str) -> proc.Result:
        place = "/etc/xwiki-stack/scripts"
        all_mounts = [f"{CHART}/files:{place}:ro", *mounts]
        options = [*UNPRIVILEGED, "--tmpfs=/tmp:mode=1777", *(f"-v={one}" for one in all_mounts)]
        words = ["bash", f"{place}/{script}"]
        network = self.host.network
        return self.host.once(self.image, *words, env=env, options=options, network=network)

    def unpack(self) -> proc.Result:
        """What the chart's init container does with the archive."""
        env = self.environment("Deployment", "unpack-flavor")
        return self._run(
            "unpack-flavor.sh", env, f"{self.archives}:/xip:ro", f"{self.data}:{VOLUME}"
        )

    def bootstrap(self) -> proc.Result:
        """What the chart's Job does once the wiki runs."""
        env = self.environment("Job", "bootstrap") | {
            "XWIKI_URL": f"http://{self.schema.name}:8080"
        }
        return self._run("bootstrap.sh", env, f"{self.secret}:/etc/xwiki-stack/secret:ro")


@pytest.fixture
def release(
    host: Host, xwiki_image: str, schema: Callable[..., Schema], tmp_path: Path
) -> Callable[[str], Release]:
    """Makes a release of the chart with a flavor."""
    return lambda flavor: Release(flavor, host, xwiki_image, schema(flavor), tmp_path)


def visit(wiki: Wiki) -> tuple[int, bool]:
    """What a visitor gets for the first page: the status, and whether it is the wizard."""
    page = wiki.request("GET", "/bin/view/Main/WebHome", user=None)
    return page.status_code, "Distribution Wizard" in page.text


def assert_bootstrapped(release: Release, wiki: Wiki) -> None:
    """The Job ends well, the admin is one, and the flavor's page is still there for visitors."""
    said = release.bootstrap()
    assert said.code == 0, said.out + said.err
    assert said.out.splitlines()[-1] == "bootstrap: done"
    export = wiki.request("GET", "/bin/export/Main/WebHome?format=xar", user=ADMIN)
    assert export.content.startswith(b"PK")
    assert visit(wiki) == (200, False)


def test_a_flavor_from_its_repository_is_installed_unasked(
    release: Callable[[str], Release], start_briefly: Start, hardening: Hardening
) -> None:
    online = release("online")
    wiki = online.start(start_briefly, hardening)
    assert wiki.wait() == 200
    visits = []

    def arrived() -> bool:
        visits.append(visit(wiki))
        return visits[-1][0] == 200

    eventually(arrived, seconds=900)
    # Until the flavor brings it, the page does not exist.
    assert set(visits) <= {(404, False), (200, False)}
    assert_bootstrapped(online, wiki)
    # Both keys are the chart's; none was made, which a lost volume would change.
    made = wiki.container.execute(
        "find", VOLUME, "-name", "configuration.properties", "-exec", "cat", "{}", "+"
    )
    assert "Key" not in made


def test_a_flavor_from_an_archive_is_installed_unasked_once_it_is_there(
    standin: str,
    release: Callable[[str], Release],
    start_briefly: Start,
    hardening: Hardening,
) -> None:
    xip = release("xip")
    wiki = xip.start(start_briefly, hardening)
    assert wiki.wait() == 200
    # Without the archive there is nothing to install, and nobody is asked about it.
    eventually(lambda: "is on no repository" in wiki.container.logs(), seconds=30)
    assert visit(wiki) == (404, False)

    wiki.container.do("stop")
    with zipfile.ZipFile(xip.archives / "flavor.xip", "w") as archive:
        name = FLAVOR.replace(":", "%3A")
        archive.writestr(f"{name}/1/{name}-1.xed", f"<extension><id>{FLAVOR}</id></extension>")
    unpacked = xip.unpack()
    assert unpacked.code == 0, unpacked.out + unpacked.err
    wiki.start_over()
    assert not visit(wiki)[1]
    assert_bootstrapped(xip, wiki)
