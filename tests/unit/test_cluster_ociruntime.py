"""The runtime wrapper: which file it changes, and what it takes out of it."""

import json
import os
import sys
from pathlib import Path

import pytest

from xwiki_stack import proc
from xwiki_stack.cluster import ociruntime

FULL = "CapBnd:\t000001ffffffffff\n"
WITHOUT_SYS_RESOURCE = "Name:\tsh\nCapBnd:\t000001fffeffffff\nSeccomp:\t0\n"


@pytest.mark.parametrize(
    ("arguments", "command", "file"),
    [
        (["create", "--bundle", "/b", "id"], "create", "/b/config.json"),
        (["create", "--bundle=/b", "--pid-file", "p", "id"], "create", "/b/config.json"),
        (["run", "-b", "/b", "id"], "run", "/b/config.json"),
        (["restore", "--bundle", "/b", "id"], "restore", "/b/config.json"),
        (["create", "id"], "create", "config.json"),
        (
            [
                "--root",
                "/r",
                "--log",
                "/l",
                "--log-format",
                "json",
                "create",
                "--bundle",
                "/b",
                "i",
            ],
            "create",
            "/b/config.json",
        ),
        (["--systemd-cgroup", "--root=/r", "exec", "--process", "/p", "id"], "exec", "/p"),
        (["exec", "-p", "/p", "--detach", "id"], "exec", "/p"),
    ],
)
def test_it_finds_the_file_that_lists_capabilities(
    arguments: list[str], command: str, file: str
) -> None:
    assert ociruntime.parse(arguments) == ociruntime.Call(command, Path(file))


@pytest.mark.parametrize(
    "arguments",
    [
        ["delete", "--force", "id"],
        ["--root", "create", "state", "id"],  # the value of an option is no command
        ["exec", "id", "sh"],
        ["--version"],
        [],
    ],
)
def test_other_calls_are_passed_on_untouched(arguments: list[str]) -> None:
    assert ociruntime.parse(arguments).file is None


def test_the_bounding_set_tells_what_is_missing() -> None:
    newest = len(ociruntime.CAPABILITIES) - 1
    assert ociruntime.missing(WITHOUT_SYS_RESOURCE, newest) == {"CAP_SYS_RESOURCE"}
    assert ociruntime.missing(FULL, newest) == set()
    assert ociruntime.missing("Name:\tsh\n", newest) == set()


def test_what_an_older_kernel_does_not_know_is_not_missing() -> None:
    """Linux 5.4 ends with CAP_AUDIT_READ, number 37."""
    whole = f"CapBnd:\t{(1 << 38) - 1:016x}\n"
    assert ociruntime.missing(whole, 37) == set()
    assert ociruntime.missing(whole, 40) == {
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    }


def test_the_names_stand_at_the_kernels_bit_numbers() -> None:
    # include/uapi/linux/capability.h
    known = {0: "CAP_CHOWN", 12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 24: "CAP_SYS_RESOURCE"}
    assert {bit: ociruntime.CAPABILITIES[bit] for bit in known} == known
    assert ociruntime.CAPABILITIES[40] == "CAP_CHECKPOINT_RESTORE"


def test_only_missing_capabilities_are_taken_out_of_a_bundle_and_of_a_process() -> None:
    sets = {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"]}
    kept = {"bounding": ["CAP_CHOWN"], "effective": []}
    bundle = {"process": {"args": ["sh"], "capabilities": sets}, "hostname": "h"}
    process = {"args": ["sh"], "capabilities": sets}
    lacking = {"CAP_SYS_RESOURCE"}
    reduced = json.loads(ociruntime.reduced(json.dumps(bundle), lacking))
    assert reduced == {"process": {"args": ["sh"], "capabilities": kept}, "hostname": "h"}
    assert json.loads(ociruntime.reduced(json.dumps(process), lacking))["capabilities"] == kept
    # Nothing lacks: nothing changes. No capabilities at all: no error.
    assert json.loads(ociruntime.reduced(json.dumps(bundle), set())) == bundle
    assert json.loads(ociruntime.reduced('{"args": []}', lacking)) == {"args": []}


def test_it_becomes_runc_with_its_own_arguments(tmp_path: Path) -> None:
    """The whole program, with a runc that only tells what it was given."""
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    runc.chmod(0o755)
    bundle = tmp_path / "config.json"
    bundle.write_text(json.dumps({"process": {"capabilities": {"bounding": ["CAP_CHOWN"]}}}))
    arguments = ["--root", "/r", "create", "--bundle", str(tmp_path), "id with space"]
    # As the engine's launcher starts it: isolated, so it must need the standard library only.
    said = proc.run(
        [sys.executable, "-I", "-S", ociruntime.__file__, *arguments],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert said.out.strip() == " ".join(arguments)
    assert json.loads(bundle.read_text())["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
