"""The offline bed's node image: kind's own base image recipe on a Debian root file system.

Three artefacts, each keyed by what made it: the root file system (debootstrap), the images a
node preloads (written from our binaries), and the node image itself. Recipe files: ci/bed/node.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import (
    archive,
    artefacts,
    engine,
    golang,
    machine,
    pins,
    programs,
    progress,
)
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

RECIPE = repo.ROOT / "ci" / "bed" / "node"
SUITE = "bookworm"
ROOT_REPOSITORY = "xwiki-stack.local/node-rootfs"
NODE_REPOSITORY = "xwiki-stack.local/node"
TOOLBOX = "xwiki-stack.local/toolbox:bed"

BUILDER = "xwiki-stack-node-build"
"""The container that a node image is made in; what an interrupted run left of it is no use."""

WASTE = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
"""Folders of the root file system that no node needs."""

IMPORT = ("--change", "ENV container=docker")
"""What docker is told about the root file system."""

# Modules whose binaries are part of a node.
MODULES = (
    "kubernetes",
    "etcd",
    "containerd",
    "coredns",
    "local-path-provisioner",
    "kube-network-policies",
    "pause",
    "kind",
)

# What iptables and ip6tables need at run time beside their shared libraries.
IPTABLES = ("/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/conntrack")
IPTABLES_NAMES = [
    f"{family}{rest}" for family in ("iptables", "ip6tables") for rest in ("", "-save", "-restore")
]

# Images as kubeadm 1.36.3 asks for them (`kubeadm config images list`); ci/bed/node/install fails
# when one is missing. CoreDNS and etcd are newer or older by a patch than these tags say.
CORE_DNS = "registry.k8s.io/coredns/coredns:v1.14.2"
ETCD = "registry.k8s.io/etcd:3.6.8-0"
PAUSE = "registry.k8s.io/pause:3.10.2"


def packages() -> list[str]:
    """Debian packages of the root file system, beside the smallest variant."""
    lines = (RECIPE / "packages.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def root_reference() -> str:
    """Name of the root file system's image."""
    made_by = [_debootstrap(), WASTE, IMPORT, golang.node_platform()]
    return f"{ROOT_REPOSITORY}:{SUITE}-{repo.digest(json.dumps(made_by))}"


def reference() -> str:
    """Name of the node image: the Kubernetes version and the content key."""
    modules = pins.modules()
    keys = [golang.key(modules[name], golang.node_platform()) for name in MODULES]
    keys += [root_reference(), programs.key(pins.tools()["kubectl"])]
    source = repo.ROOT / "scripts" / "xwiki_stack" / "cluster"
    key = repo.digest(RECIPE, source / "nodeimage.py", source / "archive.py", *keys)
    return f"{NODE_REPOSITORY}:v{modules['kubernetes'].version}-{key}"


def build_root(log: Log) -> str:
    """Make the root file system's image unless the engine has it. Gives the outcome."""
    docker, target = engine.require(), root_reference()
    if docker.has_image(target) or docker.has_image(reference()):
        return "nothing to do"
    with artefacts.lock("node-rootfs", log), artefacts.workspace("node-rootfs") as work:
        if docker.has_image(target):
            return "made by another run"
        root = work / "root"
        # In a mount namespace of its own: whatever it mounts is gone when it is interrupted.
        with progress.Watch(log, progress.debootstrap):
            log.run(
                ["unshare", "--mount", "debootstrap", *_debootstrap(), root,
                 machine.debian_mirror()],
                env={"PATH": machine.system_path()},
            )  # fmt: skip
        for waste in WASTE:
            for path in (root / waste).glob("*"):
                artefacts.remove(path) if path.is_dir() else path.unlink()
        log.say("importing it into the engine")
        # Not piped: an import takes what it got of a tar that fails half-way for a whole image.
        packed = work / "root.tar"
        log.run(["tar", "-C", root, "-cf", packed, "."])
        log.run(docker.docker("import", *IMPORT, packed, target))
    return "made"


def build(log: Log) -> str:
    """Make the node image unless the engine has it. Gives the outcome."""
    docker, target = engine.require(), reference()
    if docker.has_image(target):
        return "nothing to do"
    with artefacts.lock("node-image", log), artefacts.workspace("node-image") as work:
        if docker.has_image(target):
            return "made by another run"
        # One name, under a lock: what a killed run left is removed first.
        name = BUILDER
        remove = docker.docker("rm", "--force", "--volumes", name)
        proc.run(remove, check=False)
        # systemd halts on this signal; a plain SIGTERM makes it execute itself again.
        started = docker.docker(
            "run", "--detach", "--name", name, "--network", "none",
            "--security-opt", "seccomp=unconfined", "--stop-signal", "SIGRTMIN+3",
            "--entrypoint", "sleep", root_reference(), "infinity",
        )  # fmt: skip
        try:
            log.run(started)
            stage = work / "stage"
            _stage(stage)
            log.say("writing the images that a node preloads")
            archives = stage / "kind" / "archives"
            archives.mkdir(parents=True)

            def write(image: archive.Image) -> None:
                file = re.sub(r"[^a-z0-9.]+", "-", image.reference) + ".tar"
                archive.write(image, archives / file, golang.node_platform()[1])

            # Compressing dominates, and zlib lets go of the interpreter's lock meanwhile.
            with ThreadPoolExecutor(max_workers=2) as pool:
                list(pool.map(write, _images(docker, name, work, log)))
            log.say("copying everything in")
            proc.pipe(
                ["tar", "-C", stage, "--owner=0", "--group=0", "--numeric-owner", "-c", "."],
                docker.docker("cp", "-", f"{name}:/"),
                log=log.path,
            )
            artefacts.remove(stage)
            log.say("installing, and importing the images into its containerd")
            log.run(docker.docker("exec", name, "/kind/install"))
            log.say("committing")
            log.run(
                docker.docker(
                    "commit",
                    "--change", 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
                    name, target,
                )
            )  # fmt: skip
        finally:
            proc.run(remove, check=False)
    return "made"


def _debootstrap() -> list[str]:
    """What debootstrap is told, beside where to and where from."""
    return ["--variant=minbase", f"--include={','.join(packages())}", SUITE]


def _stage(stage: Path) -> None:
    """Lay out what is copied into the root file system."""
    shutil.copytree(_binaries("kind") / "files", stage)
    # A Go module's files are never executable, and the image's are by their place.
    for program in (*(stage / "usr/local/bin").iterdir(), *(stage / "kind/bin").iterdir()):
        program.chmod(0o755)
    shutil.copytree(RECIPE / "files", stage, dirs_exist_ok=True)
    places = {
        "usr/bin": [_binaries("kubernetes") / name for name in ("kubelet", "kubeadm")],
        "usr/local/bin": sorted(_binaries("containerd").iterdir()),
    }
    places["usr/bin"].append(programs.tools().kubectl.resolve())
    for folder, binaries in places.items():
        (stage / folder).mkdir(parents=True, exist_ok=True)
        for binary in binaries:
            shutil.copy2(binary, stage / folder / binary.name)
    (stage / "kind" / "version").write_text(f"v{pins.modules()['kubernetes'].version}")
    shutil.copy2(RECIPE / "install", stage / "kind" / "install")


def _images(docker: engine.Engine, container: str, work: Path, log: Log) -> list[archive.Image]:
    kubernetes = _binaries("kubernetes")
    version = f"v{pins.modules()['kubernetes'].version}"
    images = [
        _program(f"registry.k8s.io/{name}:{version}", kubernetes / name)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    log.say("collecting iptables for kube-proxy, busybox for the toolbox")
    tables = work / "iptables.tar"
    _collect(docker, container, tables, list(IPTABLES), plugins=_xtables(docker, container))
    proxy = archive.Image(
        f"registry.k8s.io/kube-proxy:{version}",
        files={"/usr/local/bin/kube-proxy": kubernetes / "kube-proxy"},
        links={f"/usr/sbin/{name}": "xtables-nft-multi" for name in IPTABLES_NAMES},
        base=tables,
    )
    policies = _binaries("kube-network-policies") / "kube-network-policies"
    storage = _binaries("local-path-provisioner") / "local-path-provisioner"
    return [
        *images,
        proxy,
        _program(ETCD, _binaries("etcd") / "etcd"),
        _program(PAUSE, _binaries("pause") / "pause", start=True),
        _program(CORE_DNS, _binaries("coredns") / "coredns", start=True),
        _program(_manifest_image("kube-network-policies"), policies, start=True),
        _program(_manifest_image("local-path-provisioner"), storage),
        _toolbox(docker, container, work),
    ]


def _toolbox(docker: engine.Engine, container: str, work: Path) -> archive.Image:
    """An image of a shell and network tools: Debian's busybox under all its names.

    Not its static build: resolving names needs glibc's shared libraries. `wget -T` of this version
    crashes (Debian 1.35.0-4); `timeout 3 wget` does the same.
    """
    base = work / "busybox.tar"
    _collect(docker, container, base, ["/bin/busybox"])
    applets = proc.run(docker.docker("exec", container, "busybox", "--list")).out.split()
    links = {f"/bin/{name}": "busybox" for name in applets if name != "busybox"}
    return archive.Image(TOOLBOX, links=links, folders=("/tmp", "/var/tmp"), base=base)  # noqa: S108


def _xtables(docker: engine.Engine, container: str) -> str:
    """The folder of iptables' plugins, which has the architecture in its name."""
    find = ["find", "/usr/lib", "-maxdepth", "2", "-name", "xtables", "-type", "d"]
    return proc.run(docker.docker("exec", container, *find)).out.split()[0]


def _program(reference_: str, binary: Path, *, start: bool = False) -> archive.Image:
    place = f"/usr/local/bin/{binary.name}"
    return archive.Image(reference_, {place: binary}, entrypoint=[place] if start else [])


def _manifest_image(name: str) -> str:
    """The reference under which the bed's manifests ask for a component."""
    for manifest in sorted((RECIPE / "files/kind/manifests").glob("*.yaml")):
        found = re.search(rf"image: (\S+/{name}:\S+)", manifest.read_text())
        if found:
            return found[1]
    raise MachineError(f"no manifest of the bed uses {name}", where=repo.relative(RECIPE))


def _collect(
    docker: engine.Engine, container: str, target: Path, programs: list[str], plugins: str = ""
) -> None:
    """A tar of programs of a container with their plugins (a folder) and all shared libraries.

    Links are followed into files, so that every path a program looks for is there.
    """
    objects = f"{' '.join(programs)} $(find {plugins} -name '*.so')" if plugins else programs[0]
    said = proc.run(docker.docker("exec", container, "sh", "-c", f"ldd {objects}")).out
    libraries = sorted(set(re.findall(r"(/\S+\.so[.\d]*) \(0x", said)))
    paths = [path.strip("/") for path in (*programs, *libraries, plugins) if path]
    inside = "/srv/collected.tar"
    proc.run(
        docker.docker("exec", container, "tar", "-C", "/", "-chf", inside, "--sort=name",
                      "--mtime=@0", "--owner=0", "--group=0", *paths)
    )  # fmt: skip
    proc.run(docker.docker("cp", f"{container}:{inside}", target))
    proc.run(docker.docker("exec", container, "rm", inside))


def forget_older(docker: engine.Engine) -> None:
    """Drop node images of older recipes."""
    docker.forget_older(NODE_REPOSITORY, reference())
    docker.forget_older(ROOT_REPOSITORY, root_reference())


def _binaries(name: str) -> Path:
    return golang.binaries(pins.modules()[name])
