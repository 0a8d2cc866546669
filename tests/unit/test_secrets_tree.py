"""Plain Secrets are found wherever they hide, and what only looks sealed is not taken for it."""

import shutil
from pathlib import Path

import pytest

from xwiki_stack import proc, repo
from xwiki_stack.secrets import tree
from xwiki_stack.secrets.tree import File

CLOSED = "ENC[AES256_GCM,data:q80=,iv:AAAA,tag:AAAA,type:str]"
META = f"sops: {{encrypted_regex: ^(data|stringData)$, mac: '{CLOSED}'}}"
SEALED = f"{{kind: Secret, metadata: {{name: a}}, stringData: {{k: '{CLOSED}'}}, {META}}}"

PRIVATE = "AGE-SECRET-KEY-1" + "Q" * 58
"""The form of a private key; its checksum is wrong, it opens nothing."""


def file(folder: Path, name: str, text: str) -> File:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return File(folder, name)


def test_a_secret_that_is_sealed_by_the_rule_is_fine(tmp_path: Path) -> None:
    sealed = file(tmp_path, "flux/a.sops.yaml", SEALED)
    assert tree.plain(sealed) == []
    found = tree.sealed(sealed)
    assert found
    assert (found.name, found.keys) == (("", "a"), {"k"})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "{kind: Secret, metadata: {name: a}, stringData: {k: v}}", "a is not sealed"),
        ("a.sops.yaml", "{kind: Secret, metadata: {name: a}, data: {k: dg==}}", "a is not sealed"),
        ("a.yml", "{kind: ConfigMap}\n---\n{kind: Secret, metadata: {name: b}}", "b is not sealed"),
        ("a.json", '{"kind": "Secret", "data": {"k": "dg=="}}', "without a name is not sealed"),
        (
            "values/a.yaml",
            "extra: [{deep: {kind: Secret, metadata: {name: c}, stringData: {k: v}}}]",
            "c is not sealed",
        ),
        (
            "a.yaml",
            "{kind: List, items: [{kind: Secret, metadata: {name: d}, data: {k: dg==}}]}",
            "d is not sealed",
        ),
        (
            "a.yaml",
            f"kind: List\nitems: [{SEALED}]",
            "a is not sealed",  # sops seals whole files: the items of a list stay plain
        ),
        (
            "a.yaml",
            "kind: ConfigMap\ndata:\n  m: |\n    kind: Secret\n    stringData:\n      k: v\n",
            "inside of a text",
        ),
        ("k/kustomization.yaml", "secretGenerator: [{name: a, literals: [k=v]}]", "plain text"),
        (
            "charts/x/templates/s.yaml",
            "{{ if .x }}\nkind: Secret\ndata:\n{{ end }}",
            "in a template",
        ),
        (
            "values/templates/s.yaml.j2",
            "{% if x %}\n- {kind: 'Secret', data: {}}\n{% endif %}",
            "in a template",
        ),
        ("flux/broken.yaml", "a: [", "is no YAML"),
        ("a.yaml", "a: !tag\n---\nkind: Secret # x\nstringData: {}", "in a template"),
        (
            "a.sops.yaml",
            SEALED.replace("stringData: {", "stringData: {open: v, "),
            "stringData.open is plain",
        ),
        ("a.sops.yaml", SEALED.replace(f"k: '{CLOSED}'", "k: ''"), "stringData.k is plain"),
        ("a.sops.yaml", SEALED.replace(CLOSED, CLOSED + " v", 1), "stringData.k is plain"),
        (
            "a.sops.yaml",
            SEALED.replace("stringData: {", "data: {l: dg==}, stringData: {"),
            "data.l",
        ),
        ("a.sops.yaml", SEALED.replace(f"{{k: '{CLOSED}'}}", "v"), "stringData.(all) is plain"),
        ("a.sops.yaml", SEALED.replace("^(data|stringData)$", "^data$"), "encrypted_regex is not"),
        ("a.sops.yaml", SEALED.replace(f"mac: '{CLOSED}'", "mac: ''"), "no seal over its values"),
        ("a.sops.yaml", SEALED.replace(META, "sops: yes"), "a is not sealed"),
        (
            "a.sops.yaml",
            SEALED.replace(
                "{name: a}",
                "{name: a, annotations: {kubectl.kubernetes.io/last-applied-configuration: x}}",
            ),
            "plain values in the annotation",
        ),
    ],
)
def test_what_is_plain_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (said,) = tree.plain(file(tmp_path, name, text))
    assert words in said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "valuesFrom: [{kind: Secret, name: a}]"),
        ("a.yaml", "{kind: ExternalSecret, metadata: {name: a}, spec: {data: [{secretKey: k}]}}"),
        ("a.yaml", "{kind: ConfigMap, data: {note: a Secret is named here}}"),
        ("charts/x/templates/d.yaml", "{{ if .x }}\nsecretKeyRef: {}\n{{ end }}"),
        ("values/templates/h.yaml.j2", "{% if x %}\nvaluesFrom:\n  - kind: Secret\n{% endif %}"),
    ],
)
def test_what_only_names_a_secret_is_not(tmp_path: Path, name: str, text: str) -> None:
    assert tree.plain(file(tmp_path, name, text)) == []


def test_only_a_file_of_one_secret_and_nothing_else_is_a_sealed_one(tmp_path: Path) -> None:
    for text in (f"{SEALED}\n---\n{SEALED}", SEALED.replace("Secret", "ConfigMap"), "[1]", "a: ["):
        assert tree.sealed(file(tmp_path, "a.sops.yaml", text)) is None
    strange = SEALED.replace("sops: {", "sops: {pgp: [{fp: A}], age: [{recipient: age1x}], ")
    found = tree.sealed(file(tmp_path, "a.sops.yaml", strange))
    assert found
    assert (found.recipients, found.foreign) == ({"age1x"}, ["pgp"])


def test_a_private_key_is_seen_in_any_file(tmp_path: Path) -> None:
    assert tree.private(file(tmp_path, "notes.md", f"my key: {PRIVATE}\n"))
    assert tree.private(file(tmp_path, "a.bin", f"\0\0{PRIVATE.replace('KEY-1', 'KEY-PQ-1')}"))
    assert not tree.private(file(tmp_path, "b.md", "AGE-SECRET-KEY-1 begins one"))


def test_all_that_git_would_take_is_looked_at(tmp_path: Path) -> None:
    git = proc.which("git")
    assert git, "this test needs git"
    for name in ("kept.yaml", "new.yaml", ".hidden/deep.yaml", "left.log", "gone.yaml"):
        file(tmp_path, name, "a: 1")
    (tmp_path / ".gitignore").write_text("*.log\n")
    proc.run([git, "init", "--quiet", tmp_path])
    proc.run([git, "-C", tmp_path, "add", "kept.yaml", "gone.yaml"])
    (tmp_path / "gone.yaml").unlink()
    names = {item.name for item in tree.files(tmp_path)}
    assert names == {".gitignore", ".hidden/deep.yaml", "kept.yaml", "new.yaml"}
    shutil.rmtree(tmp_path / ".git")
    assert {"kept.yaml", "new.yaml", "left.log"} <= {item.name for item in tree.files(tmp_path)}


def test_the_sweep_over_this_repository_sees_it_all_and_finds_nothing() -> None:
    every = tree.files(repo.ROOT)
    looked = tree.manifests(every)
    assert len(every) > 400
    assert len([item for item in looked if item.name.startswith("flux/")]) > 40
    assert {item.name: tree.plain(item) for item in looked if tree.plain(item)} == {}
    assert [item.name for item in every if tree.private(item)] == []
    skipped = {item.name for item in every} - {item.name for item in looked}
    wrong = [name for name in skipped if name.endswith((".yaml", ".yml", ".json"))]
    assert wrong
    assert all(name.startswith(tree.COUNTEREXAMPLES) for name in wrong)


def test_the_counterexamples_are_the_only_exception_and_are_seen_without_it() -> None:
    (wrong,) = [
        item
        for item in tree.files(repo.ROOT)
        if item.name.endswith("policy/counterexamples/no-secrets.yaml")
    ]
    assert wrong.name.startswith(tree.COUNTEREXAMPLES)
    assert tree.plain(wrong) != []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    tree.write(tmp_path / "a", "1")
    tree.write(tmp_path / "a", "2")
    assert (tmp_path / "a").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
