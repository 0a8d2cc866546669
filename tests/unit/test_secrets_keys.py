"""Private keys: for their owner alone, outside of Git, never overwritten."""

import os
import shlex
import stat
from pathlib import Path

import pyrage
import pytest

from xwiki_stack import proc, repo
from xwiki_stack.errors import IntentError, MachineError, RefusedError
from xwiki_stack.secrets import keys


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(repo.KEYS_VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_a_key_is_made_once_for_its_owner_alone(folder: Path) -> None:
    path = keys.path_of("main")
    assert path == folder / "main.agekey"
    before = os.umask(0)
    try:
        assert keys.make(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [item.name for item in folder.iterdir()] == ["main.agekey"]
    text = path.read_text()
    assert not keys.make(path)
    assert path.read_text() == text
    (public,) = keys.read(path)
    assert f"# public key: {public}\n" in text
    line = text.splitlines()[2]
    opened = pyrage.x25519.Identity.from_str(line)
    sealed = pyrage.encrypt(b"x", [pyrage.x25519.Recipient.from_str(public)])
    assert pyrage.decrypt(sealed, [opened]) == b"x"


def test_a_key_that_appears_meanwhile_is_not_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keys.path_of("main")
    keys.make(path)
    text = path.read_text()
    monkeypatch.setattr(Path, "exists", lambda _path: False)  # looked before the other made it
    assert not keys.make(path)
    monkeypatch.undo()
    assert path.read_text() == text


def test_another_key_comes_behind_the_first(folder: Path) -> None:
    path = keys.path_of("main")
    keys.make(path)
    text = path.read_text()
    public = keys.add(path)
    assert path.read_text().startswith(text)
    assert keys.read(path)[1:] == (public,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    path = keys.path_of("main")
    keys.make(path)
    path.chmod(0o640)
    with pytest.raises(MachineError, match="chmod 600"):
        keys.at_hand(path)


@pytest.mark.parametrize("text", ["", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1QQQ"])
def test_what_is_no_key_is_refused_without_showing_it(folder: Path, text: str) -> None:
    folder.mkdir()
    path = keys.path_of("main")
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(IntentError, match="age key") as refused:
        keys.read(path)
    assert "QQQ" not in str(refused.value)


def test_keys_never_lie_in_a_git_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(repo.KEYS_VARIABLE, str(repo.ROOT / "keys"))
    with pytest.raises(RefusedError, match="Git"):
        keys.path_of("main")
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv(repo.KEYS_VARIABLE, str(tmp_path / "deep" / "keys"))
    with pytest.raises(RefusedError, match=repo.KEYS_VARIABLE):
        keys.path_of("main")


def test_keys_lie_with_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(repo.KEYS_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert repo.keys() == tmp_path / "xwiki-stack" / "keys"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repo.keys() == tmp_path / ".config" / "xwiki-stack" / "keys"


def test_a_file_with_a_key_is_never_committed_by_chance() -> None:
    git = proc.which("git")
    assert git
    said = proc.run([git, "-C", repo.ROOT, "check-ignore", "main.agekey", "deep/x.agekey"])
    assert said.out.split() == ["main.agekey", "deep/x.agekey"]


def test_the_command_for_flux_names_the_file_and_not_the_key(tmp_path: Path) -> None:
    words = shlex.split(keys.for_flux(tmp_path / "a b.agekey"))
    assert f"--from-file=age.agekey={tmp_path}/a b.agekey" in words
    assert words[:3] == ["kubectl", "--namespace", "flux-system"]
