"""Images are listed with their origin, and pinned by what a real registry says of their tags."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.environments import DATA, EVERYTHING
from tests.images.server import Server
from xwiki_stack import cli, decisions, generate, images, intent, render
from xwiki_stack.cluster import registry
from xwiki_stack.errors import IntentError, MachineError, UndecidedError

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry that stands where docker.io is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        made = Server(tmp_path_factory.mktemp("registry"))
        patch.setattr(registry, "ENDPOINTS", {"docker.io": made.url})
        yield made
        made.stop()


@pytest.fixture
def prod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The intent of the prod that tests decide, on its own and without digests."""
    values = tmp_path / "values"
    shutil.copytree(DATA / "decided", values)
    monkeypatch.setattr(intent, "environments", lambda: ["prod"])
    load, cluster = intent.load_environment, intent.load_cluster
    monkeypatch.setattr(intent, "load_environment", lambda name, _values=None: load(name, values))
    monkeypatch.setattr(intent, "load_cluster", lambda name, _values=None: cluster(name, values))
    monkeypatch.setattr(intent, "refuse_shared_host", lambda _environment: None)
    path = values / "envs" / "prod.yaml"
    path.write_text(path.read_text().partition("images:")[0])
    return path


def test_every_image_of_every_environment_has_its_origin() -> None:
    found = images.listing()
    assert {image.environment for image in found} == set(intent.environments())
    for image in found:
        assert image.origin == f"values/envs/{image.environment}.yaml: images.{image.key}"
        assert image.users
    (mysql,) = [item for item in found if (item.environment, item.key) == ("staging", "mysql")]
    assert mysql.users == ("Deployment xwiki-stack-xwiki", "StatefulSet xwiki-stack-mysql")


def test_an_image_that_no_intent_pins_has_its_origin_too() -> None:
    values = yaml.safe_load(EVERYTHING.read_text())
    objects = render.helm_template(values=[values])
    environment = intent.load_environment("staging")
    by_origin = {item.origin: item for item in images.images_of(environment, values, objects)}
    generated = "values/generated/staging/xwiki-stack.yaml"
    assert f"{generated}: backups.image.tag" in by_origin
    del values["backups"]["image"]
    by_chart = images.images_of(environment, values, render.helm_template(values=[values]))
    assert "charts/backups/values.yaml: image.tag" in {item.origin for item in by_chart}
    assert "a template" not in by_origin


def test_pinning_writes_what_the_registry_says_and_closes_the_decision(
    server: Server, prod: Path
) -> None:
    mysql = server.push("library/mysql", "9.7.1", "one")
    xwiki = server.push("library/xwiki", "17.10.13-mysql-tomcat")
    before = prod.read_text()
    with pytest.raises(UndecidedError, match="prod has 3 images that no digest pins"):
        images.check(["prod"])
    pins = images.pin("prod")
    assert {(item.key, item.old, item.new) for item in pins} == {
        ("mysql", "", mysql),
        ("xwiki", "", xwiki),
    }
    assert prod.read_text().startswith(before.rstrip("\n"))
    environment = intent.load_environment("prod")
    assert environment.digests == {"mysql": mysql, "xwiki": xwiki}
    values = yaml.safe_load(generate.preview(["prod"])[0].text)
    assert values["mysql"]["image"]["tag"] == f"9.7.1@{mysql}"
    assert decisions.table_of(environment, intent.load_cluster("main"))[9].state == "decided"
    assert environment.undecided == ()
    # What is left is the image of the backup tools, which nobody publishes yet.
    with pytest.raises(UndecidedError, match=r"prod has 1 image .*backup-tools"):
        images.check(["prod"])


def test_pinning_again_changes_nothing_until_the_tag_moves(server: Server, prod: Path) -> None:
    first = server.push("library/mysql", "9.7.1", "one")
    images.pin("prod", ["mysql"])
    written = prod.read_text()
    (again,) = images.pin("prod", ["mysql"])
    assert (again.old, again.new, prod.read_text()) == (first, first, written)
    moved = server.push("library/mysql", "9.7.1", "two")
    (later,) = images.pin("prod", ["mysql"])
    assert (later.old, later.new) == (first, moved)
    assert prod.read_text() == written.replace(first, moved)


def test_a_tag_that_is_not_there_is_told_and_nothing_is_written(
    server: Server, prod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prod.write_text(prod.read_text().replace("17.10.13", "17.10.99"))
    before = prod.read_text()
    server.push("library/mysql", "9.7.1")
    assert cli.main(["images", "pin", "--env", "prod"]) == 2
    said = capsys.readouterr().err
    assert "docker.io/library/xwiki:17.10.99-mysql-tomcat: docker.io has no such tag" in said
    assert len(said.splitlines()) == 1
    assert prod.read_text() == before


def test_a_registry_that_asks_for_a_login_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    closed = Server(tmp_path, login=True)
    try:
        with pytest.raises(MachineError, match="asks for a login"):
            registry.digest_of(f"{closed.host}/library/mysql", "9.7.1")
    finally:
        closed.stop()


def test_a_registry_on_this_machine_may_speak_plain_http(server: Server) -> None:
    pushed = server.push("team/tools", "1.0")
    assert registry.digest_of(f"{server.host}/team/tools", "1.0") == pushed


def test_no_registry_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Server(tmp_path)
    made.stop()
    with pytest.raises(MachineError, match=f"no registry answers at {made.host}"):
        registry.digest_of(f"{made.host}/library/mysql", "9.7.1")


def test_an_unknown_image_and_an_open_line_are_refused(prod: Path) -> None:
    with pytest.raises(IntentError, match="no intent pins an image 'nope'; allowed: mysql, xwiki"):
        images.pin("prod", ["nope"])
    prod.write_text(prod.read_text().replace('mysql: "9.7"', "mysql: undecided"))
    with pytest.raises(UndecidedError, match="the line of MySQL is not decided"):
        images.pin("prod")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1 # why\n", f"a: 1 # why\nimages:\n  mysql: {DIGEST}\n"),
        (
            f"images: # pinned\n  xwiki: {OTHER}\n\nb: 2\n",
            f"images: # pinned\n  mysql: {DIGEST}\n  xwiki: {OTHER}\n\nb: 2\n",
        ),
        (
            f"images:\n  # why\n  mysql: {OTHER} # old\nxip:\n  mysql: {OTHER}\n",
            f"images:\n  # why\n  mysql: {DIGEST} # old\nxip:\n  mysql: {OTHER}\n",
        ),
        (f"images:\n    mysql: {OTHER}\n", f"images:\n    mysql: {DIGEST}\n"),
        (
            f"images:\n    xwiki: {OTHER}\n",
            f"images:\n    mysql: {DIGEST}\n    xwiki: {OTHER}\n",
        ),
    ],
)
def test_an_intent_keeps_its_form_and_its_comments(before: str, after: str) -> None:
    assert images.with_digest(before, "mysql", DIGEST, "x.yaml") == after


@pytest.mark.parametrize("text", [f"images: {{xwiki: '{OTHER}'}}\n", "{a: 1}\n"])
def test_a_form_that_cannot_be_kept_is_told(text: str) -> None:
    with pytest.raises(IntentError, match=r"x.yaml: images: .* write mysql: sha256:abab"):
        images.with_digest(text, "mysql", DIGEST, "x.yaml")
