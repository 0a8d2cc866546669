"""A kubeconfig that is none, a context that is not in it and a silent server are one line each."""

import socket
import time
from pathlib import Path

import pytest
import yaml

from xwiki_stack import kube
from xwiki_stack.errors import IntentError, UnhealthyError
from xwiki_stack.kube import Kube


def kubeconfig(folder: Path, port: int = 1) -> Path:
    """A right one, for a server that nobody runs."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "clusters: 3", "\x00", "\xff", "a: b"])
def test_what_is_no_kubeconfig_is_said_with_its_path(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(IntentError) as caught:
        Kube(file)
    assert str(caught.value).startswith(f"{file}: no client can be made from this kubeconfig: ")
    assert "; next: name a valid file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_context_are_said(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="no client can be made"):
        Kube(tmp_path / "absent")
    with pytest.raises(IntentError, match="elsewhere"):
        Kube(kubeconfig(tmp_path), "elsewhere")


def test_a_server_that_nobody_runs_does_not_answer(tmp_path: Path) -> None:
    for context in (None, "here"):
        with pytest.raises(UnhealthyError, match="API server does not answer"):
            Kube(kubeconfig(tmp_path), context)


def test_a_frozen_server_does_not_hang_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never says a word."""
    monkeypatch.setattr(kube, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        began = time.monotonic()
        with pytest.raises(UnhealthyError, match="API server does not answer"):
            Kube(kubeconfig(tmp_path, frozen.getsockname()[1]))
        assert time.monotonic() - began < 5
