"""A clone of its own, as somebody has it who begins: for tests that write into a checkout."""

import shutil
import sys
from pathlib import Path
from typing import Self

from tests.environments import DATA
from xwiki_stack import proc, repo


class Clone:
    """A checkout of its own and the command that works on it. `make` or `copy` gives one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        program = root / "bin" / "xwiki-stack"
        program.parent.mkdir(exist_ok=True)
        start = "import sys; from xwiki_stack.cli import main; sys.exit(main())"
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={root}/scripts exec {sys.executable} -c '{start}' \"$@\"\n"
        )
        program.chmod(0o755)

    @classmethod
    def make(cls, root: Path) -> Self:
        """Today's files, on a branch main of their own."""
        words = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = proc.run(["git", "-C", repo.ROOT, *words]).out
        names = [name for name in listed.split("\0") if (repo.ROOT / name).is_file()]
        assert len(names) > 100, "the copy is of too little"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repo.ROOT / name, root / name)
        made = cls(root)
        made.git("init", "--quiet", "--initial-branch=main")
        made.git("config", "user.email", "author@example.org")
        made.git("config", "user.name", "Author")
        # The command is ours, not part of what is committed.
        (root / ".git" / "info" / "exclude").write_text("/bin/\n")
        made.commit("as it is")
        return made

    def copy(self, root: Path) -> "Clone":
        """Another one, as this one is now."""
        shutil.copytree(self.root, root)
        return Clone(root)

    @property
    def env(self) -> dict[str, str]:
        """Of a shell whose `xwiki-stack` is this clone's, in a folder of ours."""
        path = proc.run(["sh", "-c", 'printf %s "$PATH"']).out
        return {"PATH": f"{self.root}/bin:{path}", "CHECKOUT": str(self.root), "CI": ""}

    def run(self, *words: str) -> proc.Result:
        """What the command says here."""
        return proc.run([self.root / "bin" / "xwiki-stack", *words], check=False, timeout=120)

    def git(self, *words: str) -> str:
        """What Git says here."""
        return proc.run(["git", "-C", self.root, *words]).out.strip()

    def commit(self, title: str) -> str:
        """Commit everything; give the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", title)
        return self.git("rev-parse", "HEAD")

    def decide(self) -> None:
        """Take production's decisions as `tests/data/decided` does, for the cluster too."""
        for name in ("clusters/main.yaml", "envs/prod.yaml"):
            text = (DATA / "decided" / name).read_text()
            (self.root / "values" / name).write_text(text.replace("../../../../values/", "../"))
        said = self.run("generate")
        assert said.code == 0, said.err
        self.commit("decided")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the clone."""
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
