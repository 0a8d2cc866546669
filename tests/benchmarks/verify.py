"""P4: the proof that a set is intact, against merely downloading it."""

import time
from urllib.parse import quote

from tests.benchmarks import results
from tests.benchmarks.bed import BUCKET, Bed, content_of, stored
from tests.benchmarks.restic import Restic
from xwiki_stack.backup import verify
from xwiki_stack.backup.store import Store
from xwiki_stack.figures import Figure

NEAR_DOWNLOAD = results.Goal(most=1.1)


def measure(bed: Bed) -> list[Figure]:
    """Ours and curl on the same objects; restic on the same files."""
    site, programs = bed.site, bed.programs
    made = site.set.manifest
    names = [item.key for item in made.objects]
    commands = bed.folder / "download"
    commands.touch(0o600)
    lines = [f'user = "{bed.s3.access}:{bed.s3.secret}"', 'aws-sigv4 = "aws:amz:us-east-1:s3"',
             "silent", 'write-out = "%{http_code} %{size_download}\\n"']  # fmt: skip
    for name in names:
        address = f"{bed.s3.endpoint}/{BUCKET}/{quote(f'{site.wiki.schema}/{name}')}"
        lines += [f'url = "{address}"', 'output = "/dev/null"']
    commands.write_text("\n".join(lines) + "\n")
    restic = Restic(bed, "verify")
    restic.backup(site.wiki.root)
    size, theirs = made.bytes, stored(bed.s3, restic.prefix)
    ours, inside, raw, checks = list[float](), list[float](), list[float](), list[float]()
    store, sets = Store(site.wiki.loaded()), site.sets()
    for number in range(1, bed.size.runs + 1):
        ours.append(bed.backup(site.wiki, "verify", made.id).seconds)
        began = time.monotonic()
        assert verify.intact(store, site.set, sets, verify.Seen({})) == size
        inside.append(time.monotonic() - began)
        # `--header`: this curl signs it, but does not send it.
        unsigned = "x-amz-content-sha256: UNSIGNED-PAYLOAD"
        loaded = programs.run(["curl", "--header", unsigned, "--config", commands])
        told = [line.split() for _, line in loaded.said]
        # What was refused is quickly downloaded.
        assert {code for code, _ in told} == {"200"}, loaded.out
        assert sum(int(count) for _, count in told) == size
        raw.append(loaded.seconds)
        checks.append(restic.run("check", "--read-data").seconds)
        bed.emit(f"  verify, run {number}: ours {ours[-1]:.1f} s, raw {raw[-1]:.1f} s,"
                 f" restic {checks[-1]:.1f} s")  # fmt: skip
    speeds = [size / took for took in ours]
    return [
        results.compared(
            f"proof of {results.megabytes(size)} in {len(names)} objects, with start and record",
            ours, raw, "download by curl", results.seconds, goal=NEAR_DOWNLOAD,
        ),
        results.compared(
            "the proof alone", inside, raw, "download by curl", results.seconds
        ),
        results.compared(
            "stored bytes proven",
            speeds, [theirs / took for took in checks],
            f"`restic check --read-data` of {results.megabytes(theirs)}"
            f" ({content_of(site.wiki.root) / 1e6:.0f} MB of files)",
            results.speed,
        ),
    ]  # fmt: skip
