"""Containers for tests of images: started by the docker client, ended with the test run."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xwiki_stack import proc
from xwiki_stack.cluster.engine import Engine


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    def execute(
        self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command inside; give what it says. Raises CommandFailed."""
        options = [word for key in env or {} for word in ("--env", key)]
        argv = self.engine.docker("exec", "--interactive", *options, self.name, *words)
        return proc.run(argv, stdin=stdin, env=env, timeout=300).out

    def logs(self) -> str:
        """Both outputs so far."""
        said = proc.run(self.engine.docker("logs", self.name))
        return said.out + said.err

    def address(self) -> str:
        """http://127.0.0.1:PORT of its published port; another one after every start."""
        said = proc.run(self.engine.docker("port", self.name, "8080/tcp")).out
        return f"http://{said.split()[0]}"

    def state(self) -> dict[str, Any]:
        """The State part of docker inspect."""
        said = proc.run(self.engine.docker("inspect", "--format", "{{json .State}}", self.name))
        state: dict[str, Any] = json.loads(said.out)
        return state

    def do(self, verb: str, *options: str) -> None:
        """A verb of the docker client: stop, start, kill."""
        proc.run(self.engine.docker(verb, *options, self.name), timeout=120)


@dataclass(frozen=True)
class Host:
    """Where containers of one test run live: an engine, a network of their own."""

    engine: Engine
    network: str = field(default_factory=lambda: f"xwiki-stack-contract-{os.getpid()}")
    started: list[Container] = field(default_factory=list)

    def open(self) -> None:
        """Make the network."""
        proc.run(self.engine.docker("network", "create", self.network))

    def close(self) -> None:
        """Remove the containers, with their volumes, and the network."""
        for container in self.started:
            argv = self.engine.docker("rm", "--force", "--volumes", container.name)
            proc.run(argv, check=False)
        proc.run(self.engine.docker("network", "rm", self.network), check=False)

    def start(
        self, name: str, image: str, *words: str, env: Mapping[str, str], options: Sequence[str]
    ) -> Container:
        """Start a container that stays; other containers reach it by `name`."""
        container = Container(self.engine, f"{self.network}-{name}")
        self.started.append(container)
        place = ["--detach", "--name", container.name, "--network", self.network]
        argv = self._run(image, words, env, [*place, "--network-alias", name, *options])
        proc.run(argv, timeout=1200, env=env)
        return container

    def once(
        self,
        image: str,
        *words: str,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> proc.Result:
        """Run a container to its end; its exit code may be any."""
        argv = self._run(image, words, env or {}, ["--rm", "--network", "none", *options])
        return proc.run(argv, check=False, timeout=1200, env=env)

    def copy(self, image: str, source: str, target: Path) -> None:
        """Copy a file out of an image."""
        created = proc.run(self.engine.docker("create", image)).out.strip()
        try:
            proc.run(self.engine.docker("cp", f"{created}:{source}", target))
        finally:
            proc.run(self.engine.docker("rm", "--volumes", created))

    def inspect(self, image: str) -> dict[str, Any]:
        """The Config part of an image."""
        said = proc.run(
            self.engine.docker("image", "inspect", "--format", "{{json .Config}}", image)
        )
        config: dict[str, Any] = json.loads(said.out)
        return config

    def _run(
        self, image: str, words: Sequence[str], env: Mapping[str, str], options: Sequence[str]
    ) -> list[str | Path]:
        # Only the names stand in the arguments: the client takes the values from its environment.
        named = [word for key in env for word in ("--env", key)]
        return self.engine.docker("run", *options, *named, image, *words)
