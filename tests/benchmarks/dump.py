"""P1: the database to the store, against the bare pipeline and against others' ways."""

import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.bed import BUCKET, Bed
from tests.benchmarks.programs import Spent, largest
from xwiki_stack.backup import keyring, stream
from xwiki_stack.backup.dump import CHUNK, Scanner, arguments
from xwiki_stack.backup.mysql import Server
from xwiki_stack.cluster.programs import said_version
from xwiki_stack.figures import Figure

LIMIT = 150 * 2**20
"""Bytes of memory that our own process may hold."""

METADATA = 2**16
"""Bytes that are no content: the kernel notes when a file was read first."""

SAMPLE = 200_000_000
"""Bytes of a dump that are held in memory to be passed through the stream alone."""

VERSIONS = {
    "zstd": ["zstd", "--version"],
    "rclone": ["rclone", "version"],
    "aws-cli": ["aws", "--version"],
    "mydumper": ["mydumper", "--version"],
}

AS_FAST = results.Goal(least=0.95)


def measure(bed: Bed) -> list[Figure]:
    """Ours and each peer in turn, as often as the size says."""
    site, programs = bed.site, bed.programs
    plain = site.set.manifest.database.plain_bytes
    pipe, scratch = f"{site.mysqldump} | zstd -3 -q", bed.temporary
    address = f"--host {bed.server.address} --port {bed.server.port}"
    key = f"bench:{BUCKET}/peers"
    endpoint = f"--endpoint-url {bed.s3.endpoint}"
    peers = {
        "into /dev/null": f"{pipe} > /dev/null",
        "rclone rcat": f"{pipe} | rclone rcat {key}/rcat.sql.zst",
        "aws s3 cp": f"{pipe} | aws {endpoint} s3 cp --no-progress - s3://{BUCKET}/peers/a.sql.zst",
        "spool, then rclone copyto": f"{pipe} -o {scratch}/spool.zst && rclone copyto"
        f" {scratch}/spool.zst {key}/spool.zst && rm {scratch}/spool.zst",
        "mydumper (gzip, 4 threads), then rclone copy": f"mydumper {address}"
        f" --user {site.wiki.user} --password {site.wiki.passwords['backup']} --database"
        f" {site.wiki.schema} --compress --outputdir {scratch}/mydumper"
        f" && rclone copy {scratch}/mydumper {key}/mydumper && rm -r {scratch}/mydumper",
    }
    ours: list[Spent] = []
    theirs: dict[str, list[Spent]] = {name: [] for name in peers}
    for number in range(1, bed.size.runs + 1):
        # Files are shared with the set before, so a run is the dump and little else.
        ours.append(bed.backup(site.wiki, "run"))
        for name, script in peers.items():
            theirs[name].append(programs.shell(script))
        bed.emit(f"  dump, run {number}: " + ", ".join(
            [f"ours {ours[-1].seconds:.1f} s"]
            + [f"{name} {spent[-1].seconds:.1f} s" for name, spent in theirs.items()]))  # fmt: skip
    speeds = [plain / (spent.at("database: ") - spent.at("preflight: ")) for spent in ours]
    figures = [
        results.compared(
            "dump to S3, compressed, encrypted, hashed, counted",
            speeds,
            [plain / spent.seconds for spent in theirs[name]],
            f"`mysqldump \\| zstd -3` {name}",
            results.speed,
            goal=AS_FAST if name in ("rclone rcat", "aws s3 cp") else results.NONE,
        )
        for name in ("into /dev/null", "rclone rcat", "aws s3 cp", "spool, then rclone copyto")
    ]
    mydumper = "mydumper (gzip, 4 threads), then rclone copy"
    faster = [plain / spent.seconds for spent in theirs[mydumper]]
    figures.append(results.compared("the same", speeds, faster, mydumper, results.speed))
    held = [largest(spent, "xwiki-stack") for spent in ours]
    figures += [
        results.alone(
            "our stream alone, from memory into nothing, per second of processor time",
            [_alone(bed) for _ in range(bed.size.runs)],
            results.speed,
        ),
        results.compared(
            "the whole command: with its start, preflight, unchanged files, manifest",
            [plain / spent.seconds for spent in ours],
            [plain / spent.seconds for spent in theirs["rclone rcat"]],
            "`mysqldump \\| zstd -3` rclone rcat",
            results.speed,
        ),
        results.bounded("most memory of our process", held, LIMIT, results.mebibytes),
        results.alone(
            "most memory of mysqldump beside it",
            [largest(spent, "xwiki-stack", others=True) for spent in ours],
            results.mebibytes,
        ),
        results.bounded(
            "bytes given to disks by our command",
            [float(spent.written) for spent in ours],
            METADATA,
            results.octets,
        ),
    ]
    asked = {name: programs.run(words).out for name, words in VERSIONS.items()}
    versions = (f"{name} {said_version(said)}" for name, said in asked.items())
    figures += [Figure("versions of peers", "", ", ".join(versions))]
    figures += [
        Figure(
            f"memory of all processes, bytes given to disks: {name}",
            "",
            f"{results.mebibytes(max(sum(s.resident.values()) for s in spent))},"
            f" {results.megabytes(max(s.written for s in spent))}",
        )
        for name, spent in theirs.items()
    ]
    return figures


class _Nothing:
    """A store and an upload in one that forget what they are given."""

    def upload(self, _name: str) -> "_Nothing":
        return self

    def write(self, data: bytes) -> int:
        return len(data)

    def finish(self) -> int:
        return 0

    def abandon(self) -> None:
        pass


def _alone(bed: Bed) -> float:
    """Bytes a second of processor time: counted, hashed, compressed, encrypted, nothing beside."""
    wiki = bed.site.wiki
    server = Server(wiki.loaded())
    words = arguments(wiki.loaded().need_database(), binary_log=True)
    chunks: list[bytes] = []
    with server.dumping(words) as dumping:
        while len(chunks) * CHUNK < SAMPLE and (chunk := dumping.read(CHUNK)):
            chunks.append(chunk)
    scanner = Scanner(lambda schema: schema)
    nowhere: Any = _Nothing()
    began = time.process_time()

    def pass_on() -> Iterator[bytes]:
        for chunk in chunks:
            scanner.feed(chunk)
            yield chunk

    facts = stream.write(nowhere, "nothing", pass_on(), keyring.recipients(wiki.loaded()))
    return facts.plain_bytes / (time.process_time() - began)
