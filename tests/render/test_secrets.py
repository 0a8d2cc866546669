"""Sealed Secrets with the real sops and throwaway keys: made, edited, rotated, checked.

Every refusal of `check` is tried on a checkout that it accepts otherwise.
"""

import base64
import copy
import functools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml

from tests import clusters, environments, sealing
from tests.sealing import GIVEN, Checkout
from xwiki_stack import cluster, credentials, gitops, proc, render, repo
from xwiki_stack.cluster import pins, programs
from xwiki_stack.errors import DamagedError, IntentError, MachineError, RefusedError
from xwiki_stack.render import Manifest
from xwiki_stack.secrets import check, inventory, keys, provision, rotation, rules, sops, tree

WIKI = {
    "xwiki-stack-mysql": set(credentials.KEYS["mysql"]),
    "xwiki-stack-xwiki": set(credentials.KEYS["xwiki"]),
}


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nobody has a key; not to be written to."""
    return sealing.pristine(tmp_path_factory.mktemp("pristine"))


@pytest.fixture(scope="session")
def ready(before: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, str]:
    """A checkout with all its Secrets, and what `init` said; not to be written to."""
    made = before.copy(tmp_path_factory.mktemp("ready"))
    return made, sealing.initialised(made)


@pytest.fixture
def fresh(before: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout in which nobody has a key, to write to; its keys are also this process's."""
    return _ours(before.copy(tmp_path / "fresh"), monkeypatch)


@pytest.fixture
def full(ready: tuple[Checkout, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with all its Secrets, to write to; its keys are also this process's."""
    return _ours(ready[0].copy(tmp_path / "full"), monkeypatch)


def _ours(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(render, "helm_template", _rendered)
    monkeypatch.setenv(repo.KEYS_VARIABLE, str(made.key.parent))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.top / "config"))
    return made


def _rendered(*, values: list[Path], namespace: str) -> list[Manifest]:
    """As `render.helm_template`, which asks Helm once for the same values."""
    return list(_render(values[0].read_text(), namespace))


@functools.cache
def _render(values: str, namespace: str, real: Any = render.helm_template) -> tuple[Manifest, ...]:
    return tuple(real(values=[yaml.safe_load(values)], namespace=namespace))


@pytest.fixture(autouse=True)
def nothing_stays_in_memory() -> Iterator[None]:
    had = sealing.in_memory()
    yield
    assert sealing.in_memory() == had


def problems(made: Checkout, env: str = "") -> list[str]:
    return check.check(made.root, env).problems


def public() -> str:
    return str(pyrage.x25519.Identity.generate().to_public())


# The program


def test_sops_is_the_pinned_one_and_is_asked_without_asking_anybody_else() -> None:
    pinned = pins.tools()["sops"]
    said = proc.run([cluster.tools().sops, *pinned.ask], env={"HTTPS_PROXY": "http://127.0.0.1:9"})
    assert programs.said_version(said.out) == pinned.version
    assert "warning" not in said.out + said.err


def test_sops_itself_seals_nothing_before_there_is_a_rule(before: Checkout) -> None:
    item = {"kind": "Secret", "stringData": {"k": "v"}}
    for folder in ("flux/apps/xwiki-stack/prod", "flux/clusters/main/secrets"):
        with pytest.raises(proc.CommandFailed, match="no matching creation rules"):
            sops.seal(before.root, before.root / folder / "a.sops.yaml", item)


def test_sops_itself_seals_only_where_a_rule_is_for(full: Checkout) -> None:
    item = {"kind": "Secret", "stringData": {"k": "v"}}
    right = full.root / "flux/apps/xwiki-stack/prod/a.sops.yaml"
    assert "ENC[" in sops.seal(full.root, right, item)
    for name in ("prod/a.yaml", "prod/deep/a.sops.yaml", "other/a.sops.yaml"):
        with pytest.raises(proc.CommandFailed, match="no matching creation rules"):
            sops.seal(full.root, full.root / "flux/apps/xwiki-stack" / name, item)


# What is needed


def test_a_place_needs_what_the_pods_of_its_chart_read(ready: tuple[Checkout, str]) -> None:
    made, _said = ready
    needed = {
        place.folder.rpartition("/")[2]: {
            item.name: set(item.keys) for item in inventory.wanted(made.root, place)
        }
        for place in rules.places(made.root / "values")
    }
    assert needed["staging"] == WIKI
    assert WIKI.items() <= needed["prod"].items()
    # Who opens backups comes for the hour of a restore; whose keys stay, the cluster can lose.
    assert not {name for name in needed["prod"] if "recovery" in name}
    assert "index-identity" in needed["prod"]["xwiki-stack-backups-writer"]
    assert needed["secrets"]["grafana-admin"] == {"admin-user", "admin-password"}
    answered = {name: set(values) for name, values in GIVEN.items()}
    for name, wanted in answered.items():
        assert wanted <= (needed["prod"] | needed["secrets"])[name]


def test_a_pod_that_reads_one_more_secret_needs_it() -> None:
    objects = copy.deepcopy(list(environments.objects("staging")))
    (wiki,) = [item for item in objects if item["kind"] == "Deployment"]
    spec = wiki["spec"]["template"]["spec"]
    ref = {"name": "more", "key": "k"}
    spec["containers"][0]["env"].append({"name": "A", "valueFrom": {"secretKeyRef": ref}})
    spec["containers"][0]["envFrom"] = [{"secretRef": {"name": "whole"}}]
    spec["volumes"] += [
        {"name": "b", "secret": {"secretName": "file", "items": [{"key": "f", "path": "f"}]}},
        {
            "name": "c",
            "projected": {"sources": [{"secret": {"name": "part", "items": [{"key": "p"}]}}]},
        },
        {"name": "d", "secret": {"secretName": "may-be", "optional": True}},
    ]
    job = {"spec": {"template": {"spec": {"containers": [], "volumes": [spec["volumes"][-3]]}}}}
    sleeping: dict[str, Any] = {
        "kind": "CronJob",
        "metadata": {"name": "once"},
        "spec": {"suspend": True, "jobTemplate": copy.deepcopy(job)},
    }
    sleeping["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"] = [
        {"name": "x", "secret": {"secretName": "for-the-hour"}}
    ]
    found = inventory.of_wiki([*objects, sleeping], "ns", "part")
    assert {item.name: set(item.keys) for item in found} == {
        **WIKI, "more": {"k"}, "whole": set(), "file": {"f"}, "part": {"p"},
    }  # fmt: skip
    sleeping["spec"]["suspend"] = False
    assert "for-the-hour" in {i.name for i in inventory.of_wiki([sleeping], "ns", "part")}


# init


def test_all_that_is_needed_is_there_sealed_and_taken_by_flux(ready: tuple[Checkout, str]) -> None:
    made, said = ready
    assert "Missing" not in said
    assert f"key: {made.key}" in said
    assert f"--from-file=age.agekey={made.key}" in said
    assert len(made.sealed()) >= 11
    told = made.secrets("check")
    count = len(made.sealed())
    assert f"{count} sealed Secrets, {count} of them opened and proven unchanged" in told
    assert "waits" not in told
    for folder in ("clusters/main/secrets", "apps/xwiki-stack/prod", "apps/xwiki-stack/staging"):
        lies = made.root / "flux" / folder
        listed = yaml.safe_load((lies / "kustomization.yaml").read_text())["resources"]
        files = {path.name for path in lies.glob("*.sops.yaml")}
        assert files
        assert files <= set(listed)
    parts = yaml.safe_load_all((made.root / "flux/clusters/main/kustomizations.yaml").read_text())
    sealed = {item["metadata"]["name"] for item in parts if item["spec"].get("decryption") == {
        "provider": "sops", "secretRef": {"name": "sops-age"},
    }}  # fmt: skip
    assert sealed == {"secrets", "xwiki-stack-prod", "xwiki-stack-staging"}
    assert made.run("generate", "--check").code == 0


def test_kustomize_gives_flux_what_was_sealed(ready: tuple[Checkout, str]) -> None:
    made, _said = ready
    found = clusters.kustomized(made.root / "flux/apps/xwiki-stack/prod")
    secrets = {item["metadata"]["name"]: item for item in found if item["kind"] == "Secret"}
    assert set(secrets) >= set(WIKI)
    for name, item in secrets.items():
        assert item == yaml.safe_load(made.path(name).read_text())
        assert item["metadata"]["namespace"] == "open4goods-prod"


def test_passwords_are_random_and_as_the_charts_want_them(ready: tuple[Checkout, str]) -> None:
    made, _said = ready
    seen: list[str] = []
    for env in ("prod", "staging"):
        for component, lengths in credentials.KEYS.items():
            values = made.values(made.path(f"xwiki-stack-{component}", env))
            assert {key: len(value) for key, value in values.items()} == lengths
            assert set("".join(values.values())) <= set(credentials.ALPHABET)
            seen += values.values()
    grafana = made.values(made.path("grafana-admin"))
    assert grafana["admin-user"] == "admin"
    seen.append(grafana["admin-password"])
    assert len(set(seen)) == len(seen) >= 17
    identity = made.values(made.path("xwiki-stack-backups-writer"))["index-identity"]
    assert pyrage.x25519.Identity.from_str(identity.splitlines()[-1])
    assert str(identity).splitlines()[-1] not in made.key.read_text()
    assert made.values(made.path("alertmanager-config")) == GIVEN["alertmanager-config"]


def test_a_second_run_changes_no_byte(full: Checkout) -> None:
    had = full.bytes()
    said = full.secrets("init")
    assert "nothing to do" in said
    assert full.bytes() == had


def test_what_only_a_person_knows_is_left_out_named_and_refused_by_check(fresh: Checkout) -> None:
    waiting = fresh.run("secrets", "check")
    assert "staging: waits for a key, `xwiki-stack secrets init --env staging`" in waiting.out
    assert waiting.code == 1  # prod is decided, and has none of its Secrets
    said = fresh.secrets("init", "--env", "prod")
    assert "observability/alertmanager-config: alertmanager.yaml" in said
    assert "writer: access-key, secret-key, signing-key" in said
    made = {path.name.removesuffix(".sops.yaml") for path in fresh.sealed()}
    assert made == {*WIKI, "grafana-admin"}
    refused = fresh.run("secrets", "check")
    assert refused.code == 1
    lines = [line for line in refused.out.splitlines() if "does not exist" in line]
    (one,) = [line for line in lines if "alertmanager-config" in line]
    assert one.startswith("flux/clusters/main/secrets/alertmanager-config.sops.yaml: Secret ")
    assert "with alertmanager.yaml; next: `xwiki-stack secrets init`" in one
    assert any("staging/xwiki-stack-mysql.sops.yaml" in line for line in lines)
    # Given later, nothing else changes.
    had = fresh.bytes()
    one_more = yaml.safe_dump({"alertmanager-config": GIVEN["alertmanager-config"]})
    fresh.secrets("init", "--env", "prod", "--values", "-", stdin=one_more)
    now = fresh.bytes()
    assert {name for name in now if now[name] != had.get(name)} == {
        "flux/clusters/main/secrets/alertmanager-config.sops.yaml",
        "flux/clusters/main/secrets/kustomization.yaml",
    }


def test_a_person_is_asked_for_what_nobody_else_knows(fresh: Checkout) -> None:
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        return "said-" + question.partition(" ")[0]

    outcome = provision.init(fresh.root, "prod", {}, ask)
    assert outcome.missing == []
    assert len(asked) == sum(len(values) for values in GIVEN.values())
    assert not [question for question in asked if "password" in question]
    values = fresh.values(fresh.path("external-dns-ovh"))
    assert values["applicationKey"] == "said-applicationKey"


def test_a_value_that_a_chart_asks_for_later_joins_the_others(
    full: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = full.path("xwiki-stack-mysql")
    had, text = full.values(path), path.read_text()
    monkeypatch.setitem(credentials.KEYS["mysql"], "metrics-password", 32)
    assert problems(full, "prod")[0].startswith(
        "flux/apps/xwiki-stack/prod/xwiki-stack-mysql.sops.yaml: Secret "
        "open4goods-prod/xwiki-stack-mysql lacks metrics-password"
    )
    outcome = provision.init(full.root, "prod", {}, lambda _question: "")
    assert outcome.completed == [path]
    assert outcome.written == []
    now = full.values(path)
    assert len(now.pop("metrics-password")) == 32
    assert now == had
    for line in re.findall(r"^  .*ENC\[.*$", text, re.M):
        assert line in path.read_text() or "mac:" in line


def test_a_secret_that_is_mounted_whole_is_nothing_to_invent(
    fresh: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gitops.Secret("open4goods-prod", "whole", (), "x", "x")
    monkeypatch.setattr(inventory, "wanted", lambda _root, place: [whole] * bool(place.environment))
    outcome = provision.init(fresh.root, "prod", {}, lambda _question: "")
    assert outcome.written == []
    assert outcome.missing[0].startswith("open4goods-prod/whole: all of it")
    (said,) = problems(fresh, "prod")[:1]
    assert "Secret open4goods-prod/whole does not exist, with keys that no chart names" in said


def test_a_value_joins_those_that_are_in_base64(
    full: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = full.path("grafana-admin")
    item = sops.unseal(full.root, path, full.key)
    item["data"] = {"admin-user": credentials.encode(item.pop("stringData")["admin-user"])}
    tree.write(path, sops.seal(full.root, path, item))
    assert ["admin-password" in words for words in problems(full)] == [True]
    provision.init(full.root, "prod", {}, lambda _question: "")
    now = sops.unseal(full.root, path, full.key)["data"]
    assert len(base64.b64decode(now["admin-password"])) == credentials.PASSWORD_LENGTH
    assert problems(full) == []


def test_without_the_key_new_secrets_are_sealed_and_old_ones_left_alone(full: Checkout) -> None:
    full.path("xwiki-stack-xwiki").unlink()
    full.key.rename(full.top / "elsewhere")
    said = full.secrets("init", "--env", "prod")
    assert "sealed: flux/apps/xwiki-stack/prod/xwiki-stack-xwiki.sops.yaml" in said
    assert not full.key.exists()
    assert "0 of them opened" in full.secrets("check")


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        (["--env", "local"], "", 2, "made by `make up`"),
        (["--env", "nowhere"], "", 2, "there is no environment 'nowhere'"),
        (["--values", "-"], "a: {b: c}", 2, "say --env"),
        (["--env", "prod", "--values", "-"], "a: {b: hush}", 2, "nothing here needs a Secret 'a'"),
        (
            ["--env", "prod", "--values", "-"],
            "grafana-admin: {b: hush}",
            2,
            "nothing reads 'b' of Secret grafana-admin",
        ),
        (["--env", "prod", "--values", "-"], "a: hush", 2, "standard input: a: no keys"),
        (["--env", "prod", "--values", "-"], "a: {b: 4711}", 2, "a.b: is no text"),
        (["--env", "prod", "--values", "-"], "hush", 2, "no names of Secrets"),
        (["--env", "prod", "--values", "-"], "a: 'hush\nb: [", 2, "not YAML"),
        (["--env", "prod", "--values", "no-such"], "", 2, "cannot be read"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    fresh: Checkout, words: list[str], stdin: str, code: int, said: str
) -> None:
    had = fresh.bytes()
    ended = fresh.run("secrets", "init", *words, stdin=stdin)
    assert ended.code == code
    (line,) = ended.err.splitlines()
    assert said in line
    assert "hush" not in ended.out + ended.err
    assert fresh.bytes() == had
    assert not fresh.key.exists()


def test_an_undecided_prod_is_not_begun(fresh: Checkout) -> None:
    open_prod = (repo.ROOT / "values/envs/prod.yaml").read_text()
    (fresh.root / "values/envs/prod.yaml").write_text(open_prod)
    assert fresh.run("generate").code == 0
    assert fresh.run("secrets", "init", "--env", "prod").code == 4
    assert not fresh.key.exists()
    assert fresh.run("secrets", "check").code == 0


# Nothing plain anywhere


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every argument and variable of every program that this process starts."""
    seen: list[str] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, words: Any, **options: Any) -> None:
            seen.extend(map(str, words))
            seen.extend(f"{key}={value}" for key, value in (options.get("env") or {}).items())
            super().__init__(words, **options)

    monkeypatch.setattr("xwiki_stack.proc.subprocess.Popen", Watched)
    return seen


def secrets_of(made: Checkout) -> set[str]:
    """Every plain value in a checkout that has to stay secret, and the private key."""
    values = {value for path in made.sealed() for value in made.values(path).values()}
    private = {line for line in made.key.read_text().splitlines() if line.startswith(keys.MARK)}
    assert private
    lines = {line.strip() for value in values | private for line in value.splitlines()}
    # Not: "admin", a comment of a key, the frame of what is many lines.
    return {line for line in lines if len(line) > 20 and not line.startswith("#")}


def test_no_plain_value_is_an_argument_a_variable_or_a_file(
    fresh: Checkout,
    started: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = fresh.top / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    provision.init(fresh.root, "prod", GIVEN, lambda _question: "")
    path = fresh.path("xwiki-stack-mysql")
    text = sops.with_value(fresh.root, path, fresh.key, ("stringData", "more"), "one-more-value")
    rotation.rotate(fresh.root, "main", new_key=True)
    check.check(fresh.root)
    assert len(started) > 100
    assert any(word == "encrypt" for word in started)
    assert any(word == "decrypt" for word in started)
    assert any(word == "rotate" for word in started)
    told = "".join(capfd.readouterr())
    plain = secrets_of(fresh) | {"one-more-value"}
    assert len(plain) > 25
    assert any("only-in-alerts" in value for value in plain)
    lying = {name: content.decode(errors="replace") for name, content in fresh.bytes().items()}
    for value in plain:
        assert not [word for word in started if value in word]
        assert value not in told
        assert value not in text
        assert not [name for name, content in lying.items() if value in content]
    assert list(scratch.iterdir()) == []


def test_no_plain_value_is_printed_or_committed(
    ready: tuple[Checkout, str], tmp_path: Path
) -> None:
    made, said = ready
    said += made.secrets("check")
    made = made.copy(tmp_path / "git")
    git: list[str | Path] = [proc.which("git") or "git", "-C", made.root]
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    proc.run([*git, "init", "--quiet"])
    proc.run([*git, "add", "--all"])
    proc.run([*git, *identity, "commit", "--quiet", "--message", "all"])
    assert "xwiki-stack-mysql.sops.yaml" in proc.run([*git, "ls-files"]).out
    for value in secrets_of(made):
        assert value not in said
        assert proc.run([*git, "grep", "-F", "-e", value, "HEAD"], check=False).code == 1
    assert list((made.top / "tmp").iterdir()) == []


# edit


EDITOR = """#!/bin/sh
# Notes where it works, and changes what it is told to.
umask 022
stat -c '%a %n' "$1" "$(dirname "$1")" > {notes}
echo backup > "$1~"
{does}
"""


def edit_with(made: Checkout, does: str) -> dict[str, str]:
    """The environment of an editor that does this; its notes lie in `notes`."""
    editor = made.top / "editor"
    editor.write_text(EDITOR.format(notes=made.top / "notes", does=does))
    editor.chmod(0o755)
    return {"EDITOR": str(editor), "SOPS_EDITOR": ""}


def test_an_edited_value_is_sealed_again(full: Checkout) -> None:
    path = full.path("xwiki-stack-mysql")
    had = full.values(path)
    does = "sed -i 's/root-password: .*/root-password: changed-by-hand/' \"$1\""
    said = full.secrets("edit", "xwiki-stack-mysql", "--env", "prod", **edit_with(full, does))
    assert "sealed: flux/apps/xwiki-stack/prod/xwiki-stack-mysql.sops.yaml" in said
    assert "changed-by-hand" not in said + path.read_text()
    assert full.values(path) == {**had, "root-password": "changed-by-hand"}
    assert problems(full) == []
    file, folder = (full.top / "notes").read_text().splitlines()
    assert file.startswith("600 ")
    assert folder.startswith("700 ")
    if repo.memory():
        assert file.split()[1].startswith(f"{repo.memory()}/xwiki-stack-secrets-")
    assert not Path(file.split()[1]).exists()
    assert list((full.top / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        (":", 0, "unchanged: "),
        ("exit 3", 3, "ended with exit code"),
        ("sed -i 's/.*root-password: .*/x/' \"$1\"; kill $PPID", 3, "ended with exit code"),
    ],
    ids=["nothing changed", "editor failed", "sops killed"],
)
def test_an_edit_that_comes_to_nothing_leaves_all_as_it_was(
    full: Checkout, does: str, code: int, said: str
) -> None:
    had = full.bytes()
    ended = full.run(
        "secrets", "edit", "xwiki-stack-mysql", "--env", "prod", **edit_with(full, does)
    )
    assert ended.code == code
    assert said in ended.out + ended.err
    assert full.bytes() == had


def test_an_edit_that_is_ended_leaves_no_plain_text(full: Checkout) -> None:
    had = full.bytes()
    does = f"echo $$ > {full.top}/pid; sleep 30"
    env = {**os.environ, **full.environment(), **edit_with(full, does)}
    words = full.argv("secrets", "edit", "xwiki-stack-mysql", "--env", "prod")
    with subprocess.Popen(words, env=env, cwd=full.root, start_new_session=True) as command:
        deadline = time.monotonic() + 30
        while not (full.top / "pid").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sealing.in_memory() if repo.memory() else True
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=30) == 130
        os.killpg(command.pid, signal.SIGKILL)  # the editor, which nothing ends
    assert full.bytes() == had


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such", "--env", "prod"], "no sealed Secrets are called 'no-such'; allowed: "),
        (["xwiki-stack-mysql"], "2 sealed Secrets are called 'xwiki-stack-mysql'"),
    ],
)
def test_a_name_that_is_not_one_secret_is_refused(
    ready: tuple[Checkout, str], words: list[str], said: str
) -> None:
    ended = ready[0].run("secrets", "edit", *words)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert said in ended.err


def test_an_edit_without_a_key_opens_nothing(full: Checkout) -> None:
    full.key.unlink()
    keys.make(full.key)
    ended = full.run("secrets", "edit", "grafana-admin", **edit_with(full, ":"))
    assert ended.code == 6
    assert "no key here opens it" in ended.err
    assert not (full.top / "notes").exists()


def test_an_edit_that_breaks_the_secret_is_said(full: Checkout) -> None:
    does = 'sed -i \'s/admin-user: .*/admin-user: ""/\' "$1"'
    ended = full.run("secrets", "edit", "grafana-admin", **edit_with(full, does))
    assert ended.code == 2
    assert "stringData.admin-user is plain, or empty" in ended.err


# rotate


@pytest.fixture
def small(full: Checkout) -> Checkout:
    """A checkout with one sealed file in each place."""
    for folder in {path.parent for path in full.sealed()}:
        for path in sorted(folder.glob("*.sops.yaml"))[1:]:
            path.unlink()
    assert len(full.sealed()) == 3
    assert full.run("generate").code == 0
    return full


def wrong(made: Checkout) -> list[str]:
    """What check finds, but for what a small checkout lacks."""
    return [words for words in problems(made) if "does not exist" not in words]


def other_key(made: Checkout) -> tuple[Path, str]:
    """A second person's key."""
    path = made.top / "other" / "main.agekey"
    keys.make(path)
    return path, keys.read(path)[0]


def opens(made: Checkout, key: Path) -> int:
    """How many sealed files a key opens."""
    count = 0
    for path in made.sealed():
        try:
            sops.unseal(made.root, path, key)
        except MachineError:
            continue
        count += 1
    return count


def enveloped(made: Checkout) -> set[str]:
    """The sealed data keys and values of all files."""
    return {
        found
        for path in made.sealed()
        for found in re.findall(r"ENC\[[^\]]*\]|^ +[A-Za-z0-9+/=]{40,}$", path.read_text(), re.M)
    }


def test_a_recipient_comes_and_goes_and_every_data_key_is_new(small: Checkout) -> None:
    plain = {path: small.values(path) for path in small.sealed()}
    key, other = other_key(small)
    count = len(small.sealed())
    assert (opens(small, small.key), opens(small, key)) == (count, 0)
    was = enveloped(small)
    said = small.secrets("rotate", "--add", other)
    assert f"may open now: {other}" in said
    assert (opens(small, small.key), opens(small, key)) == (count, count)
    assert not was & enveloped(small)
    assert wrong(small) == []
    assert small.secrets("rotate", "--add", other).splitlines() == [
        "nothing to do: it is so already"
    ]
    was = enveloped(small)
    said = small.secrets("rotate", "--remove", other)
    assert "change the values, too" in said
    assert (opens(small, small.key), opens(small, key)) == (count, 0)
    assert not was & enveloped(small)
    assert {path: small.values(path) for path in small.sealed()} == plain
    assert wrong(small) == []
    assert small.run("generate", "--check").code == 0


def test_a_new_key_replaces_the_old_one_without_a_gap(small: Checkout) -> None:
    (old,) = keys.read(small.key)
    said = small.secrets("rotate", "--new-key")
    first, second = keys.read(small.key)
    assert first == old
    assert f"may open now: {second}" in said
    assert "For Flux, before you push:" in said
    said = small.secrets("rotate", "--remove", old)
    assert f"opens nothing new: {old}" in said
    for path in small.sealed():
        found = tree.sealed(tree.File(small.root, path.relative_to(small.root).as_posix()))
        assert found
        assert found.recipients == {second}
    assert wrong(small) == []


def test_new_data_keys_alone_when_nothing_else_is_asked(small: Checkout) -> None:
    plain = {path: small.values(path) for path in small.sealed()}
    was = enveloped(small)
    outcome = rotation.rotate(small.root, "main")
    assert outcome.rotated == small.sealed() or set(outcome.rotated) == set(small.sealed())
    assert not was & enveloped(small)
    assert {path: small.values(path) for path in small.sealed()} == plain


def test_a_file_that_does_not_open_stops_all_before_anything_changes(small: Checkout) -> None:
    damage(next(path for path in small.sealed() if path.parent.name == "staging"))  # the last
    had, key = small.bytes(), small.key.read_bytes()
    for words in (["--add", public()], ["--new-key"], []):
        ended = small.run("secrets", "rotate", *words)
        assert ended.code in (3, 9)
        assert len(ended.err.splitlines()) == 1
        assert small.bytes() == had
        assert small.key.read_bytes() == key


def test_a_rotation_that_was_cut_off_is_finished_by_the_next(
    small: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    _key, other = other_key(small)
    real, left = tree.write, [4]

    def write(path: Path, text: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(tree, "write", write)
    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(small.root, "main", [other])
    monkeypatch.setattr(tree, "write", real)
    said = wrong(small)
    assert len(said) == len(small.sealed()) - 2
    assert all(f"is not sealed to {other}" in words for words in said)
    outcome = rotation.rotate(small.root, "main", [other])
    assert len(outcome.rotated) == len(said)
    assert wrong(small) == []


def test_nobody_is_locked_out(small: Checkout) -> None:
    (own,) = keys.read(small.key)
    _key, other = other_key(small)
    had = small.bytes()
    with pytest.raises(RefusedError, match="nobody could open"):
        rotation.rotate(small.root, "main", remove=[own])
    with pytest.raises(RefusedError, match="no key that is here"):
        rotation.rotate(small.root, "main", [other], [own])
    with pytest.raises(IntentError, match="to come and to go"):
        rotation.rotate(small.root, "main", [other], [other])
    with pytest.raises(IntentError, match="no age public key"):
        rotation.rotate(small.root, "main", ["age1nonsense"])
    with pytest.raises(IntentError, match="no age public key"):
        rotation.rotate(small.root, "main", remove=["nonsense"])
    small.key.rename(small.top / "gone")
    with pytest.raises(MachineError, match="the key that opens the Secrets is not here"):
        rotation.rotate(small.root, "main", [other])
    assert small.bytes() == had


def test_a_cluster_without_a_key_cannot_rotate(fresh: Checkout) -> None:
    ended = fresh.run("secrets", "rotate", "--new-key")
    assert ended.code == 2
    assert "`xwiki-stack secrets init` makes one" in ended.err


# check


def damage(path: Path) -> None:
    """Swap two letters in the first sealed value."""
    text = path.read_text()
    found = re.search(r"ENC\[AES256_GCM,data:([A-Za-z0-9+/]{4})", text)
    assert found
    turned = "".join(chr(ord(one) ^ 1) if one.isalnum() else one for one in found[1])
    path.write_text(text.replace(found[1], re.sub(r"[^A-Za-z0-9+/]", "A", turned), 1))


def rename_it(made: Checkout) -> None:
    """Another name in an open field: only the seal over all notices."""
    path = made.path("grafana-admin")
    path.write_text(path.read_text().replace("part-of: xwiki-stack", "part-of: another"))


def open_a_value(made: Checkout) -> None:
    path = made.path("grafana-admin")
    path.write_text(re.sub(r"(admin-password: ).*", r"\1in-the-clear", path.read_text()))


def lose_a_secret(made: Checkout) -> None:
    made.path("xwiki-stack-xwiki").unlink()


def lose_a_key(made: Checkout) -> None:
    path = made.path("xwiki-stack-xwiki")
    path.write_text(re.sub(r"^ +encryption-key: .*\n", "", path.read_text(), flags=re.M))


def seal_to_another(made: Checkout) -> None:
    path = made.path("grafana-admin")
    path.write_text(sops.rotated(made.root, path, made.key, add=[public()]))


def seal_to_a_cloud(made: Checkout) -> None:
    path = made.path("grafana-admin")
    other = "sops:\n  kms:\n    - {arn: 'arn:x', created_at: '2026-01-01T00:00:00Z', enc: x}\n"
    path.write_text(path.read_text().replace("sops:\n", other, 1))


def name_another(made: Checkout) -> None:
    facts = made.root / "values/clusters/main.yaml"
    facts.write_text(rules.with_recipients(facts, (*keys.read(made.key), public())))
    (made.root / rules.FILE).write_text(rules.text(made.root / "values"))


def write_a_rule_by_hand(made: Checkout) -> None:
    file = made.root / rules.FILE
    file.write_text(file.read_text().replace("[^/]+", ".*", 1))


def put_it_elsewhere(made: Checkout) -> None:
    path = made.path("grafana-admin")
    (made.root / "flux/infra" / path.name).write_text(path.read_text())


def call_it_otherwise(made: Checkout) -> None:
    path = made.path("grafana-admin")
    path.with_name("extra.yaml").write_text(path.read_text())


def seal_it_twice(made: Checkout) -> None:
    path = made.path("grafana-admin")
    path.with_name("again.sops.yaml").write_text(path.read_text())


def put_two_in_one(made: Checkout) -> None:
    path = made.path("grafana-admin")
    path.write_text(f"{path.read_text()}---\n{path.read_text()}")


def add_a_plain_one(made: Checkout) -> None:
    item = {"kind": "Secret", "metadata": {"name": "x"}, "data": {"k": "dg=="}}
    (made.root / "values/extra.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [item]}))


def add_a_private_key(made: Checkout) -> None:
    (made.root / "docs/notes.md").write_text(made.key.read_text())


def add_a_key_file(made: Checkout) -> None:
    (made.root / "docs/main.agekey").write_text("")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: damage(made.path("grafana-admin")), ["changed after it was sealed"]),
        (rename_it, ["grafana-admin.sops.yaml: does not open: it was changed after"]),
        (open_a_value, ["admin-password is plain", "changed after it was sealed"]),
        (lose_a_secret, ["prod/xwiki-stack-xwiki does not exist, with superadmin-password"]),
        (
            lose_a_key,
            ["lacks encryption-key; next: `xwiki-stack secrets init --env prod`", "changed"],
        ),
        (seal_to_another, ["whom .sops.yaml does not name; next: `xwiki-stack secrets rotate"]),
        (seal_to_a_cloud, ["is sealed to keys of kms, which no rule has"]),
        (name_another, ["is not sealed to age1"] * 12),
        (write_a_rule_by_hand, [".sops.yaml: says something else than the intent"]),
        (put_it_elsewhere, ["flux/infra/grafana-admin.sops.yaml: is in no folder"]),
        (
            call_it_otherwise,
            ["the same Secret is in another file"] * 2 + ["extra.yaml: is sealed, but its name"],
        ),
        (seal_it_twice, ["the same Secret is in another file"] * 2),
        (
            put_two_in_one,
            ["grafana-admin does not exist", "holds something else than one sealed Secret"],
        ),
        (add_a_plain_one, ["values/extra.yaml: Secret x is not sealed"]),
        (add_a_private_key, ["docs/notes.md: holds a private age key"]),
        (add_a_key_file, ["docs/main.agekey: holds a private age key"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_refuses(
    full: Checkout, change: Callable[[Checkout], None], words: list[str]
) -> None:
    change(full)
    said = problems(full)
    assert len(said) == len(words), said
    for line, part in zip(said, words, strict=True):
        assert part in line


def test_the_command_says_every_mistake_and_how_many(full: Checkout) -> None:
    lose_a_secret(full)
    rename_it(full)
    said = problems(full)
    ended = full.run("secrets", "check")
    assert ended.code == 1
    assert ended.out.splitlines()[1:] == said
    assert len(said) == 2
    assert ended.err == f"xwiki-stack: {len(said)} mistake(s) with Secrets, each in a line above\n"


def test_what_nothing_reads_any_more_is_said_and_not_refused(full: Checkout) -> None:
    path = full.path("xwiki-stack-backups-prune").with_name("left-over.sops.yaml")
    item = {"kind": "Secret", "metadata": {"name": "left-over"}, "stringData": {"k": "v"}}
    tree.write(path, sops.seal(full.root, path, item))
    report = check.check(full.root)
    assert report.problems == []
    assert report.remarks == [
        "flux/apps/xwiki-stack/prod/left-over.sops.yaml: nothing reads it; is it needed any more?"
    ]


def test_without_the_key_check_says_that_it_opened_nothing(full: Checkout) -> None:
    rename_it(full)
    full.key.unlink()
    said = full.secrets("check")
    assert f"{len(full.sealed())} sealed Secrets, 0 of them opened" in said


def test_with_a_vault_the_platforms_secrets_are_not_asked_of_git(fresh: Checkout) -> None:
    facts = fresh.root / "values/clusters/main.yaml"
    vault = "backend: vault\n  server: https://vault.example.org"
    facts.write_text(re.sub(r"backend: sops.*", vault, facts.read_text()))
    assert fresh.run("generate").code == 0
    fresh.secrets("init", "--env", "staging")
    assert {path.parent.name for path in fresh.sealed()} == {"staging"}
    assert [words for words in problems(fresh) if "clusters/main/secrets" in words] == []


def test_make_check_runs_it() -> None:
    from xwiki_stack import checks

    assert ["xwiki-stack", "secrets", "check"] in checks.COMMANDS.values()


def test_this_repository_passes() -> None:
    report = check.check(repo.ROOT)
    assert report.problems == []
    assert report.files > 400


def test_a_damaged_file_is_said_by_its_name(full: Checkout) -> None:
    path = full.path("grafana-admin")
    rename_it(full)
    with pytest.raises(DamagedError, match=r"git log -- flux/clusters/main/secrets/grafana-admin"):
        sops.unseal(full.root, path, full.key)
