"""A checkout of its own for tests of sealed Secrets: a decided prod, throwaway keys, real sops."""

import compileall
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.environments import DATA
from xwiki_stack import proc, repo
from xwiki_stack.secrets import keys, sops, tree

PARTS = (
    *("Chart.", "charts/", "ci/", "docs/", "scripts/", "templates/", "values"),
    *("flux/infra/", "flux/policies/", "flux/release/"),
)
"""What the command needs of the repository: not its tests, no Git, nothing generated or sealed."""

COMMAND = "import sys; from xwiki_stack.cli import main; sys.exit(main(sys.argv[1:]))"

RECEIVERS = "route:\n  receiver: people\nreceivers:\n  - name: people\n    token: only-in-alerts\n"


def only(name: str) -> str:
    """A value that only the operator knows, different for each name and nowhere else."""
    return f"given-for-{name}-0123456789"


GIVEN = {
    "longhorn-backup-s3": {
        key: only(f"volumes-{key}")
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINTS")
    },
    "external-dns-ovh": {
        key: only(f"zone-{key}") for key in ("applicationKey", "applicationSecret", "consumerKey")
    },
    "alertmanager-config": {"alertmanager.yaml": RECEIVERS},
    **{
        f"xwiki-stack-backups-{holder}": {
            key: only(f"{holder}-{key}") for key in ("access-key", "secret-key", *more)
        }
        for holder, more in (
            ("writer", ["signing-key"]),
            ("verifier", ["signing-key"]),
            ("prune", ["signing-key"]),
            ("exporter", []),
        )
    },
}
"""What an operator would answer for the decided prod and its platform."""


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository, and around it what belongs to its user."""

    top: Path

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.top / "checkout"

    @property
    def key(self) -> Path:
        """The private key of its cluster."""
        return self.top / "keys" / f"main{keys.ENDING}"

    def environment(self) -> dict[str, str]:
        """Of a command: its own keys, no key of whoever runs the tests, its own scratch folder."""
        (self.top / "tmp").mkdir(exist_ok=True)
        return {
            "PYTHONPATH": str(self.root / "scripts"),
            "PYTHONDONTWRITEBYTECODE": "1",
            repo.KEYS_VARIABLE: str(self.key.parent),
            "XDG_CONFIG_HOME": str(self.top / "config"),
            "TMPDIR": str(self.top / "tmp"),
        }

    def argv(self, *words: str) -> list[str]:
        """`xwiki-stack` as this checkout has it."""
        return [sys.executable, "-c", COMMAND, *words]

    def run(self, *words: str, stdin: str = "", **environment: str) -> proc.Result:
        """Run `xwiki-stack` to its end, whatever that is."""
        env = {**self.environment(), **environment}
        return proc.run(self.argv(*words), stdin=stdin, env=env, cwd=self.root, check=False)

    def secrets(self, *words: str, stdin: str = "", **environment: str) -> str:
        """Run `xwiki-stack secrets`, which must end well; what it says."""
        said = self.run("secrets", *words, stdin=stdin, **environment)
        assert said.code == 0, said.err + said.out
        return said.out

    def sealed(self) -> list[Path]:
        """Its sealed files."""
        return sorted((self.root / "flux").rglob("*.sops.yaml"))

    def path(self, name: str, env: str = "prod") -> Path:
        """The sealed file of a Secret."""
        wiki = self.root / "flux" / "apps" / "xwiki-stack" / env / f"{name}.sops.yaml"
        platform = self.root / "flux" / "clusters" / "main" / "secrets" / wiki.name
        return wiki if wiki.is_file() else platform

    def values(self, path: Path) -> dict[str, str]:
        """The plain values of a sealed file."""
        found: dict[str, str] = sops.unseal(self.root, path, self.key)["stringData"]
        return found

    def bytes(self) -> dict[str, bytes]:
        """Every file of the checkout, but for Python's own."""
        found = self.root.rglob("*")
        every = (path for path in found if path.is_file() and path.suffix != ".pyc")
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in every}

    def copy(self, top: Path) -> "Checkout":
        """All of it elsewhere."""
        shutil.copytree(self.top, top, symlinks=True, dirs_exist_ok=True)
        return Checkout(top)


def pristine(top: Path) -> Checkout:
    """A checkout in which prod is decided and nobody has a key yet."""
    made = Checkout(top)
    for file in tree.files(repo.ROOT):
        if file.name.startswith(PARTS):
            target = made.root / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, target)
            shutil.copymode(file.path, target)
    for name in ("clusters/main.yaml", "envs/prod.yaml"):
        shutil.copyfile(DATA / "decided" / name, made.root / "values" / name)
    # Else each command in each copy would compile all anew.
    assert compileall.compile_dir(made.root / "scripts", quiet=1)
    said = made.run("generate")
    assert said.code == 0, said.err
    return made


def initialised(made: Checkout) -> str:
    """Seal all that prod, staging and their platform need; what the command said."""
    said = made.secrets("init", "--env", "prod", "--values", "-", stdin=yaml.safe_dump(GIVEN))
    return said + made.secrets("init", "--env", "staging")


def in_memory() -> set[str]:
    """What editors have left where plain text lies while it is edited."""
    folder = repo.memory()
    return {path.name for path in folder.glob("xwiki-stack-secrets-*")} if folder else set()
