"""What the store may do wrong on the way, by a proxy before a real S3 server."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyrage
import pytest

from tests.backups.proxy import HOLD, Answer, Fault, Proxy, Request, always, away, first, proxy
from tests.backups.wiki import Wiki, command
from xwiki_stack import proc
from xwiki_stack.backup import deadline, site, store, stream
from xwiki_stack.backup.store import MIB, Store
from xwiki_stack.errors import IncompleteError, StoreError

KEY = pyrage.x25519.Identity.generate()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the smallest size that S3 allows, and waits that are shorter than ours."""
    monkeypatch.setattr(store, "PART_SIZES", ((4, 5 * MIB), (100, 6 * MIB)))
    monkeypatch.setattr(proc, "pause", lambda seconds: time.sleep(min(seconds, 0.4)))


@pytest.fixture
def plain() -> list[bytes]:
    """33 MiB that do not compress: six or seven parts."""
    chance = random.Random(3)  # noqa: S311
    return [chance.randbytes(MIB) for _ in range(33)]


def send(wiki: Wiki, fault: Fault, plain: list[bytes], **changes: object) -> Proxy:
    """Store a stream through a proxy, and read it back beside it."""
    with proxy(wiki.s3.port, fault) as between:
        through = Store(wiki.loaded(store__endpoint=between.endpoint, **changes))
        facts = stream.write(through, "probe/large", iter(plain), [KEY.to_public()])
    back = bytearray()
    again = stream.read(Store(wiki.loaded()), "probe/large", [KEY], back.extend)
    assert again == facts
    assert bytes(back) == b"".join(plain)
    return between


@pytest.mark.fault(8)
@pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
def test_without_a_fault_parts_arrive_in_order(
    make: Callable[..., Wiki], checksums: str, plain: list[bytes]
) -> None:
    wiki = make()
    seen = send(wiki, lambda _: None, plain, store__checksums=checksums).seen
    assert seen.count("part") == 7
    assert seen.count("complete") == 1


@pytest.mark.fault(2)
@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "fault",
    [
        first(4, "part", Answer(503, "SlowDown")),
        first(2, "begin", Answer(500, "InternalError")),
        first(1, "complete", Answer(500, "InternalError", after=True)),
        first(2, "complete", Answer(500, "InternalError")),
        first(2, "complete", Answer(200, "InternalError")),
        first(1, "complete", Answer(200, "InternalError", after=True)),
        away(2.0, "part"),
    ],
    ids=["slow down", "500 on begin", "500 after completing", "500 before completing",
         "200 with an error", "200 with an error after completing", "away for a while"],
)  # fmt: skip
def test_a_store_that_falters_gets_it_all_the_same(
    make: Callable[..., Wiki], fault: Fault, plain: list[bytes]
) -> None:
    send(make(), fault, plain)


@pytest.mark.fault(3)
@pytest.mark.fault(5)
@pytest.mark.fault(6)
@pytest.mark.fault(9)
@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (always("part", Answer(503, "SlowDown")), "SlowDown"),
        (away(3600, "part"), "upload part failed"),
        (always("complete", Answer(200, "InternalError")), "InternalError"),
        (always("part", Answer(507, "InsufficientStorage")), "nothing was pruned"),
        (always("part", Answer(403, "QuotaExceeded")), "nothing was pruned"),
        (always("begin", Answer(403, "RequestTimeTooSkewed")), "set this machine's clock"),
        (always("part", Answer(403, "ExpiredToken")), "renew the temporary credentials"),
    ],
    ids=["slow for ever", "gone for good", "200 with an error", "full", "quota", "clock", "token"],
)  # fmt: skip
def test_a_store_that_fails_ends_in_one_line_and_no_object(
    make: Callable[..., Wiki], fault: Fault, words: str, plain: list[bytes]
) -> None:
    wiki = make()
    with proxy(wiki.s3.port, fault) as between:
        through = Store(wiki.loaded(store__endpoint=between.endpoint))
        with pytest.raises(StoreError) as failed:
            stream.write(through, "probe/large", iter(plain), [KEY.to_public()])
        time.sleep(0.2)
    assert words in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1
    assert wiki.keys("probe/") == []
    if "403" in str(fault) or "token" in words:
        assert between.seen.count("part") <= 4, "no storm of tries"


@pytest.mark.fault(11)
def test_what_a_failed_producer_wrote_is_dropped(
    make: Callable[..., Wiki], plain: list[bytes]
) -> None:
    wiki = make()

    def producer() -> Iterator[bytes]:
        yield from plain[:20]
        raise IncompleteError("the producer failed")

    with proxy(wiki.s3.port, lambda _: None) as between:
        through = Store(wiki.loaded(store__endpoint=between.endpoint))
        with pytest.raises(IncompleteError, match="the producer failed"):
            stream.write(through, "probe/large", producer(), [KEY.to_public()])
    assert between.seen[-1] == "abort"
    assert wiki.keys("probe/") == []
    assert list(Store(wiki.loaded()).uploads()) == []


@pytest.mark.fault(18)
def test_an_upload_that_stands_still_ends_with_the_runs_time(
    make: Callable[..., Wiki], plain: list[bytes]
) -> None:
    wiki = make()
    began = time.monotonic()
    with proxy(wiki.s3.port, always("part", HOLD)) as between:
        through = Store(wiki.loaded(store__endpoint=between.endpoint))
        late = pytest.raises(IncompleteError, match=r"took longer than 0\.03 min")
        with late, deadline.within(0.03):
            stream.write(through, "probe/large", iter(plain), [KEY.to_public()])
    assert time.monotonic() - began < 15
    assert threading.current_thread() is threading.main_thread()


def test_a_reading_that_breaks_is_taken_up_where_it_broke(
    make: Callable[..., Wiki], plain: list[bytes]
) -> None:
    wiki = make()
    send(wiki, lambda _: None, plain)
    known = wiki.loaded()
    direct = Store(known)
    client: Any = direct._client
    real = client.get_object
    cuts = [3]

    def cut(**words: Any) -> Any:
        said = real(**words)
        if cuts[0]:
            cuts[0] -= 1
            chunks = said["Body"].iter_chunks

            def some(size: int) -> Iterator[bytes]:
                for number, block in enumerate(chunks(size)):
                    if number == 4:
                        raise ConnectionResetError("reset")
                    yield block

            said["Body"].iter_chunks = some
        return said

    client.get_object = cut
    back = bytearray()
    stream.read(direct, "probe/large", [KEY], back.extend)
    assert bytes(back) == b"".join(plain)
    assert cuts == [0]


@pytest.mark.fault(7)
def test_a_store_that_ignores_conditions_is_refused(wiki: Wiki) -> None:
    count = [0]

    def fault(request: object) -> "Answer | None":
        # The second put of the probe is the conditional one; it is answered as if it was done.
        if getattr(request, "kind", "") == "put" and "probe/writer" in getattr(request, "path", ""):
            count[0] += 1
            return Answer(200) if count[0] == 2 else None
        return None

    with proxy(wiki.s3.port, fault) as between:
        result = command(wiki, "run", store__endpoint=between.endpoint)
    assert result.code == 10
    assert "conditional" in result.err


@pytest.mark.fault(17)
def test_another_run_that_probes_at_the_same_moment_is_no_fault(wiki: Wiki) -> None:
    others = [3]

    def fault(request: Request) -> None:
        # The last step of the probe: in the place of the version that was written a moment ago.
        known = request.headers.get("if-match", '"0"') != '"0"'
        if known and request.path.endswith("probe/writer") and others[0]:
            others[0] -= 1
            Store(wiki.loaded()).put("probe/writer", f"another run's {others[0]}".encode())

    with proxy(wiki.s3.port, fault) as between:
        result = command(wiki, "run", store__endpoint=between.endpoint)
    assert result.code == 0, result.err
    assert others == [0]


@pytest.mark.fault(7)
@pytest.mark.parametrize(("kind", "right"), [
    ("put", "put is missing (s3:PutObject)"), ("head", "head"), ("list", "AccessDenied")
])  # fmt: skip
def test_a_missing_right_is_named(wiki: Wiki, kind: str, right: str) -> None:
    with proxy(wiki.s3.port, always(kind, Answer(403, "AccessDenied"))) as between:
        result = command(wiki, "run", store__endpoint=between.endpoint)
    assert result.code == 10
    assert right in result.err
    assert wiki.sets() == []


@pytest.mark.fault(4)
def test_a_whole_run_survives_a_store_that_falters(wiki: Wiki) -> None:
    count = [0]

    def fault(request: Request) -> Answer | None:
        # Of what comes after the probe, every third call fails first.
        count[0] += 1
        busy = count[0] % 3 == 0 and "probe/" not in request.path and count[0] > 8
        return Answer(503, "SlowDown") if busy else None

    with proxy(wiki.s3.port, fault) as between:
        found = site.run(wiki.loaded(store__endpoint=between.endpoint), lambda _line: None).found
    assert wiki.sets() == [found.manifest.id]
    assert count[0] > 20


@pytest.mark.fault(4)
def test_after_an_error_the_object_is_looked_at_before_another_try(
    make: Callable[..., Wiki], plain: list[bytes]
) -> None:
    fault = first(1, "complete", Answer(500, "InternalError", after=True))
    seen = send(make(), fault, plain).seen
    assert seen.count("complete") == 1
    assert seen[seen.index("complete") + 1] == "head"
