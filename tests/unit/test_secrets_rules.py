""".sops.yaml says what the intent says, and a person's file keeps what the person wrote."""

import shutil
from pathlib import Path

import pyrage
import pytest
import yaml
from tests.environments import DATA

from xwiki_stack import intent, repo
from xwiki_stack.errors import IntentError
from xwiki_stack.secrets import rules

ONE, TWO, THREE = (str(pyrage.x25519.Identity.generate().to_public()) for _ in range(3))


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """A copy of the intents, with a prod that is decided."""
    shutil.copytree(repo.ROOT / "values" / "envs", tmp_path / "envs")
    shutil.copytree(repo.ROOT / "values" / "clusters", tmp_path / "clusters")
    for folder, name in (("clusters", "main"), ("envs", "prod")):
        shutil.copyfile(
            DATA / "decided" / folder / f"{name}.yaml", tmp_path / folder / f"{name}.yaml"
        )
    return tmp_path


def name_recipients(values: Path, *recipients: str) -> None:
    facts = values / "clusters" / "main.yaml"
    facts.write_text(rules.with_recipients(facts, recipients))


def test_before_anybody_has_a_key_there_is_no_rule_and_the_file_says_so() -> None:
    text = rules.text()
    if not intent.load_cluster("main").recipients:
        assert yaml.safe_load(text)["creation_rules"] == []
        assert "No rule for cluster main: nobody holds a key yet" in text
    assert "No rule for prod: it is undecided" in text
    assert (repo.ROOT / rules.FILE).read_text() == text


def test_each_folder_has_a_rule_with_the_recipients_of_its_cluster(values: Path) -> None:
    name_recipients(values, ONE, TWO)
    found = yaml.safe_load(rules.text(values))
    assert found["stores"] == {"yaml": {"indent": 2}}
    made = {rule.pop("path_regex"): rule for rule in found["creation_rules"]}
    assert list(made) == [
        r"^flux/clusters/main/secrets/[^/]+\.sops\.yaml$",
        r"^flux/apps/xwiki-stack/prod/[^/]+\.sops\.yaml$",
        r"^flux/apps/xwiki-stack/staging/[^/]+\.sops\.yaml$",
    ]
    for rule in made.values():
        assert rule == {"encrypted_regex": "^(data|stringData)$", "age": [ONE, TWO]}


def test_the_cluster_of_make_up_and_an_undecided_prod_have_no_place(values: Path) -> None:
    shutil.copyfile(repo.ROOT / "values" / "envs" / "prod.yaml", values / "envs" / "prod.yaml")
    name_recipients(values, ONE)
    folders = [place.folder for place in rules.places(values)]
    assert folders == ["flux/clusters/main/secrets", "flux/apps/xwiki-stack/staging"]
    assert "No rule for prod" in rules.text(values)


def test_a_recipient_with_a_typing_mistake_is_refused(values: Path) -> None:
    wrong = ONE[:-1] + ("q" if ONE[-1] != "q" else "p")
    name_recipients(values, TWO, wrong)
    with pytest.raises(IntentError, match=r"clusters/main\.yaml: secrets\.recipients: .* checksum"):
        rules.text(values)
    name_recipients(values, TWO, "age1short")
    with pytest.raises(IntentError, match=r"secrets\.recipients"):
        rules.text(values)


@pytest.mark.parametrize(
    ("before", "recipients", "after"),
    [
        (
            "project: x\n",
            [ONE],
            f"project: x\nsecrets:\n  backend: sops\n  recipients:\n    - {ONE}\n",
        ),
        (
            "secrets:\n  backend: sops  # why\nnodes: 1 # n\n",
            [ONE],
            f"secrets:\n  backend: sops  # why\n  recipients:\n    - {ONE}\nnodes: 1 # n\n",
        ),
        (
            f"secrets:\n  recipients:\n    - {ONE} # Ann\n    - {TWO} # Flux\n  backend: sops\n",
            [TWO, THREE],
            f"secrets:\n  recipients:\n    - {TWO} # Flux\n    - {THREE}\n  backend: sops\n",
        ),
        (
            f"secrets:\n  backend: sops\n  recipients:\n  - {ONE}\n",
            [ONE, TWO],
            f"secrets:\n  backend: sops\n  recipients:\n  - {ONE}\n  - {TWO}\n",
        ),
    ],
    ids=["no secrets", "no recipients", "one goes, one comes", "other indent"],
)
def test_a_persons_file_keeps_its_comments(
    tmp_path: Path, before: str, recipients: list[str], after: str
) -> None:
    file = tmp_path / "main.yaml"
    file.write_text(before)
    assert rules.with_recipients(file, tuple(recipients)) == after


@pytest.mark.parametrize(
    "text",
    [
        "secrets: {backend: sops}\n",
        f"secrets:\n  backend: sops\n  recipients: [{ONE}]\n",
        f"secrets:\n  backend: sops\n  recipients: [{ONE},\n    {THREE}]\n",
    ],
)
def test_a_file_in_another_style_is_left_to_the_person(tmp_path: Path, text: str) -> None:
    file = tmp_path / "main.yaml"
    file.write_text(text)
    with pytest.raises(IntentError, match="write a list yourself"):
        rules.with_recipients(file, (ONE, TWO))
    assert file.read_text() == text


def test_the_committed_cluster_takes_a_recipient_and_changes_in_nothing_else(values: Path) -> None:
    file = values / "clusters" / "main.yaml"
    shutil.copyfile(repo.ROOT / "values" / "clusters" / "main.yaml", file)
    before, wanted = file.read_text().splitlines(), yaml.safe_load(file.read_text())
    recipients = (*intent.load_cluster("main", values).recipients, ONE)
    name_recipients(values, *recipients)
    after = file.read_text().splitlines()
    assert [line for line in after if line in before] == before
    wanted["secrets"]["recipients"] = [*recipients]
    assert yaml.safe_load(file.read_text()) == wanted
    assert intent.load_cluster("main", values).recipients == recipients
