"""Containers for tests of images: started by the docker client, ended with their tests."""

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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

    def until(
        self, *words: str, env: Mapping[str, str] | None = None, seconds: float = 180
    ) -> None:
        """Run a command inside until it succeeds.

        Raises AssertionError, with what the container said, once it has ended or time is up.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.state()["Running"]:
            try:
                self.execute(*words, env=env)
            except proc.CommandFailed:
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"`{words[0]}` never succeeded\n{self.logs()[-3000:]}")

    def logs(self) -> str:
        """Both outputs so far."""
        said = proc.run(self.engine.docker("logs", self.name))
        return said.out + said.err

    def times(self, words: str) -> list[float]:
        """When each line that holds the words was said, in seconds of the engine's clock."""
        said = proc.run(self.engine.docker("logs", "--timestamps", self.name))
        lines = [line for line in (said.out + said.err).splitlines() if words in line]
        return sorted(datetime.fromisoformat(line.split()[0]).timestamp() for line in lines)

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

    def remove(self) -> None:
        """End it and drop it with its own volumes; nothing happens where it is gone already."""
        argv = self.engine.docker("rm", "--force", "--volumes", self.name)
        proc.run(argv, check=False)


@dataclass(frozen=True)
class Host:
    """Where containers of one test run live: an engine, a network of their own."""

    engine: Engine
    network: str = field(default_factory=lambda: f"xwiki-stack-contract-{os.getpid()}")
    started: list[Container] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Make the network."""
        proc.run(self.engine.docker("network", "create", self.network))

    def close(self) -> None:
        """Remove the containers that are left, the volumes and the network."""
        for container in self.started:
            container.remove()
        for volume in self.volumes:
            proc.run(self.engine.docker("volume", "rm", volume), check=False)
        proc.run(self.engine.docker("network", "rm", self.network), check=False)

    def obtain(self, image: str) -> None:
        """Pull an image unless the engine has it."""
        if not self.engine.has_image(image):
            proc.run(self.engine.docker("pull", image), timeout=1800)

    def volume(self, image: str, path: str) -> str:
        """Make a volume that any user may write, as one with fsGroup is for a pod; give its name.

        Holds what the image has at the path, as the volume of a container would.
        """
        name = f"{self.network}-{len(self.volumes)}"
        proc.run(self.engine.docker("volume", "create", name))
        self.volumes.append(name)
        options = ["-v", f"{name}:{path}"]
        opened = self.once(image, "chmod", "-R", "a+rwX", path, options=options)
        assert opened.code == 0, opened.err
        return name

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
        network: str = "none",
        stdin: str | None = None,
        seconds: float = 1200,
    ) -> proc.Result:
        """Run a container to its end; its exit code may be any.

        Raises MachineError where it does not end in time; it is gone then, too.
        """
        container = Container(self.engine, f"{self.network}-{secrets.token_hex(4)}")
        place = ["--rm", "--name", container.name, "--network", network]
        place += ["--interactive"] if stdin else []
        argv = self._run(image, words, env or {}, [*place, *options])
        try:
            return proc.run(argv, check=False, timeout=seconds, env=env, stdin=stdin)
        except BaseException:
            container.remove()
            raise

    def copy(self, image: str, sources: Sequence[str], target: Path) -> None:
        """Copy files out of an image into a folder."""
        created = proc.run(self.engine.docker("create", image)).out.strip()
        try:
            for source in sources:
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
