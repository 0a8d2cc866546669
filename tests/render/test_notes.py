"""What `helm install` tells: where the wiki answers, who may log in, which Secrets it needs."""

from typing import Any

import pytest

from tests.render.test_umbrella import BACKUPS, EXTERNAL, PUBLISHED
from xwiki_stack import credentials, render

ROUTE = {**PUBLISHED, "parentRefs": [{"name": "public"}]}


def notes(values: dict[str, Any]) -> str:
    return render.helm_notes([values])


def secrets(text: str) -> dict[str, set[str]]:
    """The Secrets that the notes name, with their keys."""
    found: dict[str, set[str]] = {}
    lines = text.partition("with their keys:")[2].partition("What was written")[0].splitlines()
    for line in filter(str.strip, lines):
        name, _, keys = line.strip().partition(": ")
        found.setdefault(name, set()).update(keys.split(", "))
    return found


NOT_PUBLISHED = "port-forward service/xwiki-stack-xwiki 8080:8080"


@pytest.mark.parametrize(
    ("wiki", "said"),
    [
        ({}, NOT_PUBLISHED),
        ({"home": "https://elsewhere.example.org/"}, NOT_PUBLISHED),
        ({"ingress": PUBLISHED}, "at http://wiki.example.org/\n"),
        ({"ingress": {**PUBLISHED, "tlsSecret": "tls"}}, "at https://wiki.example.org/\n"),
        ({"httpRoute": ROUTE}, "at wiki.example.org, as the Gateways"),
        (
            {"httpRoute": ROUTE, "home": "https://wiki.example.org/"},
            "at https://wiki.example.org/\n",
        ),
    ],
)
def test_the_notes_say_where_the_wiki_answers(wiki: dict[str, Any], said: str) -> None:
    text = notes({"xwiki": wiki})
    assert said in text
    assert ("not published" in text) is (said is NOT_PUBLISHED)


def test_an_admin_is_promised_only_if_one_is_made() -> None:
    assert "The admin is Admin" in notes({})
    text = notes({"xwiki": {"bootstrap": {"enabled": False}}})
    assert "The admin is" not in text
    assert "admin-password" not in text.replace("superadmin-password", "")
    assert "superadmin" in text


def test_every_secret_is_named_with_its_keys() -> None:
    ours = {f"{render.RELEASE}-{component}": set(k) for component, k in credentials.KEYS.items()}
    assert secrets(notes({})) == ours


def test_secrets_of_other_names_are_named_with_what_is_read_of_them() -> None:
    s3 = {"store": "s3", "s3": {"bucket": "b", "existingSecret": "keys"}}
    copy = {"existingSecret": "copy", "passwordKey": "password"}
    values = {"xwiki": {"attachments": s3, "database": copy, "auth": {"existingSecret": "wiki"}}}
    assert secrets(notes(values)) == {
        "wiki": set(credentials.KEYS["xwiki"]),
        "copy": {"password"},
        "keys": {"access-key", "secret-key"},
        "xwiki-stack-mysql": set(credentials.KEYS["mysql"]),
    }


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, "xwiki-stack-xwiki-data and data-xwiki-stack-mysql-0."),
        (EXTERNAL, "in xwiki-stack-xwiki-data."),
        ({"xwiki": {"enabled": False}}, "in data-xwiki-stack-mysql-0."),
        ({"xwiki": {"persistence": {"existingClaim": "restored"}}}, "in restored and data-"),
    ],
    ids=["both", "wiki", "mysql", "restored"],
)
def test_what_stays_is_what_there_is(values: dict[str, Any], kept: str) -> None:
    assert kept in notes(values)


def test_a_component_that_is_off_is_not_talked_about() -> None:
    assert set(secrets(notes(EXTERNAL))) == {"xwiki-stack-xwiki", "database"}
    without_wiki = notes({"xwiki": {"enabled": False}})
    assert set(secrets(without_wiki)) == {"xwiki-stack-mysql"}
    assert "wiki starts" not in without_wiki


def test_backups_name_a_secret_for_each_holder_and_how_to_make_a_first_set() -> None:
    text = notes({"backups": BACKUPS})
    name = f"{render.RELEASE}-backups"
    store = {"access-key", "secret-key"}
    told = {secret: keys for secret, keys in secrets(text).items() if secret.startswith(name)}
    assert told == {
        f"{name}-writer": {*store, "signing-key", "index-identity"},
        f"{name}-verifier": {*store, "signing-key"},
        f"{name}-prune": {*store, "signing-key"},
        f"{name}-recovery": {*store, "identity"},
    }
    tried = secrets(notes({"backups": {**BACKUPS, "drill": {"enabled": True}}}))
    assert tried[f"{name}-drill"] == {*store, "signing-key", "identity"}
    watched = notes({"backups": {**BACKUPS, "metrics": {"enabled": True}}})
    assert secrets(watched)[f"{name}-exporter"] == store
    assert f"create job --from=cronjob/{name}-site" in text
    assert "cronjob" not in notes({})
