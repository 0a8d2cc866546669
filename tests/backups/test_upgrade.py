"""An upgrade of production: the command on a clone, sets and signed records on a real S3 server.

Sets are manifests without objects: what an upgrade asks is what is signed.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.backups.s3 import S3
from tests.clone import Clone
from xwiki_stack import proc, repo
from xwiki_stack.backup import config, evidence, manifest, signature
from xwiki_stack.backup.manifest import Artefact, Found, Site
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import StackError
from xwiki_stack.runbook import Runbook

PAGE = repo.ROOT / "docs" / "how-to" / "upgrade.md"

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@dataclass
class Desk:
    """Where somebody reads one environment's sets; its key signs them, too."""

    s3: S3
    folder: Path
    environment: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for name, text in (("access", self.s3.access), ("secret", self.s3.secret)):
            (self.folder / name).write_text(text)

    def config(self, **store: Any) -> Path:
        """The configuration of `xwiki-stack backup` as a file."""
        document = {
            "environment": self.environment,
            "purpose": self.environment,
            "store": {
                "endpoint": self.s3.endpoint,
                "bucket": self.s3.objects.name,
                "prefix": f"{self.folder.parent.name}-{self.environment}",
                "pathStyle": True,
                "accessKeyFile": str(self.folder / "access"),
                "secretKeyFile": str(self.folder / "secret"),
                **store,
            },
            "keys": {"trusted": [signature.public_of(self.key)]},
        }
        path = self.folder / "backup.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    @property
    def store(self) -> Store:
        return Store(config.load(self.config()))

    def save(self, age: timedelta, server: str = "9.7.1") -> Found[Site]:
        """A set of that age."""
        name = manifest.new_id(self.store.now() - age)
        home = f"sets/site/{name}"
        database, index = (Artefact(f"{home}/{part}", 1, "0", 1, "0") for part in ("db", "index"))
        made = Site(
            id=name, environment=self.environment, snapshot="", tool="", server=server,
            mysqldump=server, position={}, schemas=["xwiki"], tables={}, database=database,
            index=index, packs=[], generation={}, files={"count": 0}, attachments={},
            producers={}, recipients=[],
        )  # fmt: skip
        return manifest.publish(self.store, made, self.key)

    def say(
        self, found: Found[Site], kind: str, key: Ed25519PrivateKey | None = None, **facts: Any
    ) -> None:
        """A signed record on a set that held."""
        at = f"{self.store.now():%Y-%m-%dT%H:%M:%SZ}"
        made = found.manifest
        record = evidence.Record(made.id, found.sha256, kind, True, at, 1, 1, "", facts=facts)
        evidence.write(self.store, record, key or self.key)

    def drill(self, found: Found[Site], xwiki: str, mysql: str = "9.7.1") -> None:
        """A drill that held, as it records itself."""
        steps = {"database": 9, "load": 60, "start": 240}
        versions = {"xwiki": xwiki, "mysql": mysql}
        self.say(found, evidence.DRILL, versions=versions, steps=steps, rto_seconds=900)


@pytest.fixture
def prod(s3: S3, tmp_path: Path) -> Desk:
    """The desk of production."""
    return Desk(s3, tmp_path / "prod", "prod")


@pytest.fixture
def staging(s3: S3, tmp_path: Path) -> Desk:
    """The desk of staging."""
    return Desk(s3, tmp_path / "staging", "staging")


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose production is decided, pinned, and inside its window now."""
    made = Clone.make(tmp_path_factory.mktemp("decided") / "clone")
    begin = datetime.now(UTC) - timedelta(hours=1)
    made.decide()
    window = f"{begin:%a %H:%M}-{begin + timedelta(hours=6):%H:%M}"
    made.edit("values/envs/prod.yaml", "Sun 02:00-04:00", window)
    made.commit("the hour has come")
    return made


@pytest.fixture(scope="module")
def tried(decided: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """One whose staging has XWiki 18.4.5, pinned; its window was closed, so somebody said why."""
    made = decided.copy(tmp_path_factory.mktemp("tried") / "clone")
    words = ["--env", "staging", "--xwiki", "18.4.5", "--digest", ONE, "--write"]
    said = made.run("upgrade", *words, "--force", "a rehearsal")
    assert said.code == 0, said.err
    made.commit("staging moves")
    return made


@pytest.fixture
def clone(decided: Clone, tmp_path: Path) -> Clone:
    """A copy of the first."""
    return decided.copy(tmp_path / "clone")


@pytest.fixture
def rehearsed(tried: Clone, tmp_path: Path) -> Clone:
    """A copy of the second."""
    return tried.copy(tmp_path / "clone")


def asked(clone: Clone, prod: Desk, *words: str, code: int = 20) -> dict[str, Any]:
    """The plan for production as JSON."""
    said = clone.run(
        "upgrade", "--env", "prod", "--xwiki", "18.4.5", "--config", str(prod.config()),
        "--format", "json", *words,
    )  # fmt: skip
    assert said.code == code, said.out + said.err
    return form(said.out)


def form(text: str) -> dict[str, Any]:
    """The document, which must be of the form that is documented, the review in it too."""
    found: dict[str, Any] = json.loads(text)
    for package, document in (("upgrade", found), ("review", found["review"])):
        schema = json.loads(
            files(f"xwiki_stack.{package}").joinpath("report.schema.json").read_text()
        )
        if document:
            jsonschema.validate(document, schema)
    return found


def unmet(plan: dict[str, Any]) -> set[str]:
    return {item["name"] for item in plan["conditions"] if item["required"] and not item["met"]}


def test_production_waits_for_set_and_staging_and_then_moves(
    rehearsed: Clone, prod: Desk, staging: Desk
) -> None:
    """Drills of staging on production's own sets: their records lie beside the sets."""
    clone, (old, young) = rehearsed, (prod.save(timedelta(hours=h)) for h in (30, 0.1))
    prod.say(old, evidence.OPENED)
    prod.say(young, evidence.OPENED, key=staging.key)
    plan = asked(clone, prod)
    assert unmet(plan) == {"set", "staging"}, "one is old, one was opened by nobody we trust"
    prod.say(young, evidence.OPENED)
    prod.drill(young, "17.10.13")
    plan = asked(clone, prod)
    assert (plan["ready"], unmet(plan)) == (False, {"staging"}), "the drill had the old version"
    assert any(f"restore set {young.manifest.id}" in line for line in plan["back"])
    prod.drill(young, "18.4.5")
    plan = asked(clone, prod, code=0)
    assert (plan["ready"], unmet(plan), plan["written"]) == (True, set(), None)
    assert plan["moves"] == [
        {"program": "XWiki", "from": "17.10.13", "to": "18.4.5", "digest": ONE}
    ]
    (pause,) = plan["downtime"]["workloads"]
    assert (pause["workload"], pause["triedSeconds"]) == ("Deployment xwiki-stack-xwiki", 240)
    assert f"in the drill of set {young.manifest.id}" in pause["fact"]
    assert plan["downtime"]["atMostSeconds"] == pause["stopSeconds"] + pause["startSeconds"]
    assert any("took 15 min 00 s in the drill of" in line for line in plan["back"])
    rules = {item["rule"] for item in plan["review"]["sections"][0]["verdicts"]}
    assert {"image", "restart"} <= rules

    assert clone.git("status", "--porcelain") == ""
    plan = asked(clone, prod, "--write", code=0)
    assert plan["written"]["title"] == "feat(intent): prod moves to XWiki 18.4.5"
    changed = {line.split()[-1] for line in clone.git("status", "--porcelain").splitlines()}
    assert changed == {"values/envs/prod.yaml", "values/generated/prod/xwiki-stack.yaml"}
    values = yaml.safe_load((clone.root / "values/generated/prod/xwiki-stack.yaml").read_text())
    assert values["xwiki"]["image"]["tag"] == f"18.4.5-mysql-tomcat@{ONE}"
    assert "Forced" not in (clone.root / "values/envs/prod.yaml").read_text()


def test_without_what_must_hold_nothing_is_written_unless_somebody_says_why(
    clone: Clone, prod: Desk
) -> None:
    words = ["upgrade", "--env", "prod", "--xwiki", "18.4.5", "--digest", ONE,
             "--config", str(prod.config()), "--write"]  # fmt: skip
    said = clone.run(*words)
    assert (said.code, said.out) == (6, "")
    assert said.err == (
        "xwiki-stack: prod: does not hold: set, staging; nothing was written; next: meet it, "
        'or say why not: --force "REASON"\n'
    )
    assert clone.git("status", "--porcelain") == ""
    said = clone.run(*words, "--force", "a hole in 17.10.13")
    assert said.code == 0, said.err
    note = f"# Forced {datetime.now(UTC):%Y-%m-%d} without set, staging: a hole in 17.10.13\n"
    assert note in (clone.root / "values/envs/prod.yaml").read_text()
    assert "Reason: a hole in 17.10.13" in said.out
    assert clone.run("generate", "--check").code == 0


def test_a_bump_that_exists_is_asked_the_same_before_its_merge(
    rehearsed: Clone, prod: Desk
) -> None:
    clone = rehearsed
    clone.git("switch", "--quiet", "--create", "bump")
    clone.edit("values/envs/prod.yaml", "xwiki: 17.10.13", "xwiki: 18.4.5")
    clone.edit("values/envs/prod.yaml", "sha256:" + "ab" * 32, ONE)
    clone.run("generate")
    clone.commit("a bump by a bot")
    clone.git("switch", "--quiet", "main")

    def judged(code: int) -> proc.Result:
        said = clone.run("upgrade", "--env", "prod", "--to-ref", "bump", "--config",
                         str(prod.config()))  # fmt: skip
        assert said.code == code, said.out + said.err
        return said

    assert "prod: does not hold: set, staging" in judged(20).err
    found = prod.save(timedelta(minutes=10))
    prod.say(found, evidence.OPENED)
    prod.drill(found, "18.4.5")
    assert "XWiki 17.10.13 -> 18.4.5 in prod" in judged(0).out
    clone.git("switch", "--quiet", "bump")
    clone.edit("values/envs/prod.yaml", 'mysql: "9.7"', 'mysql: "8.4"')
    clone.run("generate")
    clone.commit("and a way back")
    clone.git("switch", "--quiet", "main")
    assert "MySQL would go back, 9.7.1 -> 8.4.10" in judged(6).err


def test_another_lts_line_of_mysql_asks_for_a_set_of_the_old_one(
    clone: Clone, prod: Desk, staging: Desk
) -> None:
    """8.4 to 9.7: what a plan says of it; the servers themselves are tests/contract's."""
    clone.edit("values/envs/prod.yaml", 'mysql: "9.7"', 'mysql: "8.4"')
    clone.run("generate")
    clone.commit("a production of old")

    def plan(code: int) -> dict[str, Any]:
        said = clone.run(
            "upgrade", "--env", "prod", "--mysql", "9.7", "--digest", OTHER, "--format", "json",
            "--config", str(prod.config()), "--staging-config", str(staging.config()),
        )  # fmt: skip
        assert said.code == code, said.err
        return form(said.out)

    wrong = prod.save(timedelta(minutes=10), server="9.7.1")
    prod.say(wrong, evidence.OPENED)
    staging.drill(staging.save(timedelta(days=1)), "17.10.13")
    assert unmet(plan(20)) == {"set"}, "what 9.7 has dumped does not go into 8.4"
    right = prod.save(timedelta(minutes=5), server="8.4.10")
    prod.say(right, evidence.OPENED)
    found = plan(0)
    assert found["moves"][0] | {"digest": ""} == {
        "program": "MySQL", "from": "8.4.10", "to": "9.7.1", "digest": "",
    }  # fmt: skip
    paused = {item["workload"]: item for item in found["downtime"]["workloads"]}
    assert set(paused) == {"StatefulSet xwiki-stack-mysql", "Deployment xwiki-stack-xwiki"}
    assert paused["StatefulSet xwiki-stack-mysql"]["triedSeconds"] == 0
    assert "8.4.10 does not start on it again" in found["back"][0]
    assert right.manifest.id in found["back"][1]


def test_a_store_that_is_silent_is_told_beside_the_rest(
    clone: Clone, prod: Desk, staging: Desk
) -> None:
    silent = prod.config(endpoint="http://127.0.0.1:9")
    words = ["upgrade", "--env", "prod", "--xwiki", "18.4.5", "--config"]
    said = clone.run(*words, str(silent))
    assert said.code == 20
    assert "the way back" in said.out
    assert "18.4.5-mysql-tomcat" in said.out
    assert "18.4.5-mysql-tomcat@" not in said.out, "the old digest would pull the old image"
    assert "does not hold: set, staging" in said.err
    said = clone.run(*words, str(staging.config()))
    assert said.code == 2
    assert "environment: is of staging, not of prod" in said.err


def test_the_page_brings_production_to_another_version(
    rehearsed: Clone, prod: Desk, staging: Desk
) -> None:
    clone = rehearsed
    staging.drill(staging.save(timedelta(days=1)), "18.4.5")
    variables = {"ENV": "prod", "CONFIG": str(prod.config()), "STAGING": str(staging.config())}
    book = Runbook(PAGE, {**clone.env, **variables})
    assert "does not hold: set" in book.run(book.of("1.")[0])
    with pytest.raises(StackError, match="does not hold: set; nothing was written"):
        book.run(book.of("4.")[0])
    prod.say(prod.save(timedelta(minutes=1)), evidence.OPENED)
    said = book.run_all(lambda _heading: None)
    assert "does not hold" not in said
    assert "feat(intent): prod moves to XWiki 18.4.5" in said
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("show", "--format=", "--name-only", "HEAD").splitlines() == [
        "values/envs/prod.yaml", "values/generated/prod/xwiki-stack.yaml",
    ]  # fmt: skip
