"""Local Secrets are made once, complete, and never replaced."""

from typing import Any

from xwiki_stack import credentials


class Secrets:
    """The Secrets of one namespace, kept as server-side apply of one manager keeps them."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def get(self, _kind: str, name: str, _namespace: str) -> dict[str, Any] | None:
        return self.kept.get(name)

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kept[manifest["metadata"]["name"]] = manifest


def made(store: Secrets) -> list[str]:
    return credentials.ensure(store, "ns", "rel")  # type: ignore[arg-type]


def value(store: Secrets, component: str, key: str) -> str | None:
    return credentials.read(store, "ns", "rel", component, key)  # type: ignore[arg-type]


def test_every_key_of_the_contract_is_made_at_random() -> None:
    store = Secrets()
    assert made(store) == ["rel-mysql", "rel-xwiki"]
    values = [value(store, c, key) for c, keys in credentials.KEYS.items() for key in keys]
    assert len(values) == 8
    assert len(set(values)) == 8
    assert all(v and len(v) == 32 and set(v) <= set(credentials.ALPHABET) for v in values)


def test_a_second_run_changes_nothing() -> None:
    store = Secrets()
    made(store)
    before = {name: dict(item["data"]) for name, item in store.kept.items()}
    assert made(store) == []
    assert {name: item["data"] for name, item in store.kept.items()} == before


def test_a_missing_key_is_added_and_the_others_stay() -> None:
    store = Secrets()
    made(store)
    kept = value(store, "mysql", "xwiki-password")
    del store.kept["rel-mysql"]["data"]["backup-password"]
    assert made(store) == ["rel-mysql"]
    assert value(store, "mysql", "xwiki-password") == kept
    assert value(store, "mysql", "backup-password")
    assert value(store, "mysql", "no-such-key") is None
