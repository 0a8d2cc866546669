"""The object store: any that speaks S3. The only module that knows boto3.

Every call is retried a bounded number of times where waiting can help, and never where it cannot
(credentials, rights, quota). Errors end as one StoreError that names the call, the object and what
to do. The SDK's own retries are off, so that what happens is what stands here.
"""

import contextlib
import hashlib
import math
import mmap
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.loaders import Loader, create_loader
from botocore.session import Session as BotocoreSession

from xwiki_stack import proc
from xwiki_stack.backup.config import Bucket, Config, authority, secret
from xwiki_stack.errors import StackError, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 2**20

PART_SIZES = ((2000, 8 * MIB), (4000, 16 * MIB), (4000, 64 * MIB))
"""How many parts of which size: 16 + 62 + 250 GiB within the 10 000 parts that S3 allows.

Small parts first, since memory is what is bounded: one part fills while two of the first size, or
one of a larger size, are on their way."""

SMALL = 4 * MIB
"""Bytes: a smaller object is stored in one call."""

BLOCK = MIB
"""Bytes that are read at a time."""

SKEW = timedelta(minutes=5)
"""A difference of clocks that is refused; signatures of S3 fail from 15 min on."""

LISTED = 1000
"""Keys that one page of a listing, or one call that deletes, can hold."""

HOPELESS = {
    "AccessDenied": "grant this identity the right, see the store's policy",
    "AllAccessDisabled": "look after the account",
    "ExpiredToken": "renew the temporary credentials",
    "InvalidAccessKeyId": "put the right key into the file of store.accessKeyFile",
    "InvalidBucketName": "correct store.bucket",
    "InvalidToken": "renew the temporary credentials",
    "NoSuchBucket": "make the bucket, or correct store.bucket",
    "QuotaExceeded": "make room or raise the quota; nothing was pruned",
    "XMinioStorageFull": "make room; nothing was pruned",
    "InsufficientStorage": "make room; nothing was pruned",
    "507": "make room; nothing was pruned",
    "PermanentRedirect": "correct store.region and store.endpoint",
    "AuthorizationHeaderMalformed": "correct store.region",
    "RequestTimeTooSkewed": "set this machine's clock: it differs from the store's",
    "SignatureDoesNotMatch": "put the right key into the file of store.secretKeyFile",
    "XAdminUserNotFound": "put the right key into the file of store.accessKeyFile",
    "403": "check the credentials and the rights of this identity",
    "401": "check the credentials",
}
"""Error codes that no retry changes, and what to do."""

ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}

HELD = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


@dataclass(frozen=True)
class Patience:
    """How long a call is tried: attempts, and seconds for connecting and for silence.

    within: seconds after which no other attempt begins.
    """

    attempts: int
    connect: float
    silence: float
    within: float = math.inf


STEADY = Patience(attempts=8, connect=10, silence=60)
"""Outlives a store that is away for 20 s: waits of 0.5, 1, 2, 4, 8, 16, 20 s between attempts."""

HASTY = Patience(attempts=5, connect=4, silence=8, within=16)
"""For looking before the work begins: an answer within 30 s whatever the store does. A refusal is
borne for 7 s: the rules that let a new pod out may land after it has begun."""


class Absent(StoreError):  # noqa: N818 - it reads as what happened
    """There is no such object."""


class Held(StoreError):  # noqa: N818 - it reads as what happened
    """A conditional write found that another was first."""


@dataclass(frozen=True)
class Stored:
    """An object as a listing or HEAD shows it. `modified`: the store's time."""

    key: str
    size: int
    etag: str
    modified: datetime


class Store:
    """A bucket below one prefix; keys are relative to it."""

    def __init__(self, config: Config, patience: Patience = STEADY) -> None:
        self._config, self._bucket, self._patience = config, config.store, patience
        self._client = _client(config, patience)
        self.passed: Callable[[int], None] = _unheard

    def hasty(self) -> "Store":
        """The same store, given up soon."""
        return Store(self._config, HASTY)

    @contextlib.contextmanager
    def told(self, passed: Callable[[int], None]) -> Iterator[None]:
        """Within it, `passed` gets the count of each block of a large object, read or written."""
        self.passed = passed
        try:
            yield
        finally:
            self.passed = _unheard

    def key(self, name: str) -> str:
        """An object as an operator finds it: s3://bucket/prefix/name."""
        return f"s3://{self._bucket.bucket}/{self._bucket.prefix}{name}"

    def now(self) -> datetime:
        """The store's own time (UTC), from the Date of an answer."""
        # Any answer has a date, one that refuses too: some identities may not ask for the bucket.
        try:
            said = self._call("list_objects_v2", "", Prefix=self._bucket.prefix, MaxKeys=1)
            headers = said["ResponseMetadata"]["HTTPHeaders"]
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or "NoSuchBucket" in str(error):
                raise
            headers = cause.response["ResponseMetadata"].get("HTTPHeaders", {})
            if "date" not in headers:
                raise
        date = headers.get("date", "")
        try:
            return parsedate_to_datetime(date).astimezone(UTC)
        except ValueError as error:
            raise StoreError(f"its answers carry no date ({date!r})", where=self.key("")) from error

    def agreed_now(self) -> datetime:
        """The store's own time, if this machine's clock says about the same. Raises StoreError."""
        now = self.now()
        skew = abs(datetime.now(UTC) - now)
        if skew > SKEW:
            raise StoreError(
                f"this machine's clock is {int(skew.total_seconds() // 60)} min off the store's",
                where=self.key(""),
                next="find out which one is wrong and set it; signatures of S3 fail from 15 min on",
            )
        return now

    def put(self, name: str, content: bytes, *, absent: bool = False, etag: str = "") -> str:
        """Store a small object; give its etag.

        absent: only where there is none. etag: only in the place of that version. Raises Held.
        """
        conditions = {"IfNoneMatch": "*"} if absent else {"IfMatch": etag} if etag else {}
        said = self._call("put_object", name, Body=content, **conditions, **self._encryption())
        return str(said.get("ETag", ""))

    def put_new(self, name: str, content: bytes) -> str:
        """Store an object that must not exist yet; give its etag. Raises Held.

        An answer may get lost after the store has acted: what then stands there is ours if it is
        the same bytes.
        """
        try:
            return self.put(name, content, absent=True)
        except Held:
            found, etag = self.get_with_etag(name)
            if found != content:
                raise
            return etag

    def get(self, name: str, *, limit: int = 64 * MIB) -> bytes:
        """A small object's content. Raises Absent, and StoreError above `limit` bytes."""
        return self.get_with_etag(name, limit=limit)[0]

    def get_with_etag(self, name: str, *, limit: int = 64 * MIB) -> tuple[bytes, str]:
        """A small object's content and the etag of that very version."""

        def read() -> tuple[bytes, str]:
            said = self._client.get_object(Bucket=self._bucket.bucket, Key=self._full(name))
            if said["ContentLength"] > limit:
                raise StoreError(f"is larger than {limit} bytes", where=self.key(name))
            with contextlib.closing(said["Body"]) as body:
                return body.read(), said["ETag"]

        found: tuple[bytes, str] = self._patiently("get_object", name, read)
        return found

    def head(self, name: str) -> Stored:
        """What the store knows of an object. Raises Absent."""
        said = self._call("head_object", name)
        return Stored(name, said["ContentLength"], said["ETag"], said["LastModified"])

    def listed(self, folder: str) -> Iterator[Stored]:
        """Every object below a folder, page by page, in the order of keys."""
        token: dict[str, str] = {}
        below = self._bucket.prefix
        while True:
            said = self._call("list_objects_v2", folder, Prefix=below + folder, **token)
            for item in said.get("Contents", ()):
                name = item["Key"].removeprefix(below)
                yield Stored(name, item["Size"], item["ETag"], item["LastModified"])
            if not said.get("IsTruncated"):
                return
            token = {"ContinuationToken": said["NextContinuationToken"]}

    def read(self, name: str) -> Iterator[bytes]:
        """An object's bytes in blocks; a connection that breaks is taken up where it broke.

        Raises Absent; StoreError when it changes on the way or ends early for good.
        """
        position, total, etag, failures = 0, -1, "", 0
        while total < 0 or position < total:
            ranged: dict[str, str] = {}
            if position:
                ranged = {"Range": f"bytes={position}-", "IfMatch": etag}
            said = self._call("get_object", name, **ranged)
            if total < 0:
                total, etag = said["ContentLength"], said["ETag"]
            try:
                with contextlib.closing(said["Body"]) as body:
                    for block in body.iter_chunks(BLOCK):
                        position += len(block)
                        failures = 0
                        self.passed(len(block))
                        yield block
                if position < total:
                    raise IncompleteReadError(actual_bytes=position, expected_bytes=total)
            except (HTTPClientError, ResponseStreamingError, IncompleteReadError, OSError) as cut:
                failures += 1
                if failures >= self._patience.attempts:
                    raise self._error("get_object", name, cut) from cut
                self._wait(failures)

    def delete(self, names: list[str]) -> None:
        """Delete objects, at most 1000 a call, all that can be.

        Raises StoreError that counts what is left, and says of the first until when it is locked.
        """
        left: list[Any] = []
        for start in range(0, len(names), LISTED):
            page = [{"Key": self._full(name)} for name in names[start : start + LISTED]]
            said = self._call("delete_objects", "", Delete={"Objects": page, "Quiet": True})
            left += said.get("Errors", ())
        if not left:
            return
        key = str(left[0].get("Key"))
        words = f"{left[0].get('Code')} {left[0].get('Message', '')}".strip()
        until = self._locked_until(key)
        raise StoreError(
            (f"is locked until {until:%Y-%m-%d %H:%M} UTC" if until else "cannot be deleted")
            + f": {words}; {len(left)} of {len(names)} objects stay",
            where=f"s3://{self._bucket.bucket}/{key}",
            next="a later prune takes them"
            if until
            else "the prune identity needs s3:DeleteObject; a legal hold must be lifted",
        )

    def _locked_until(self, key: str) -> datetime | None:
        """When the object lock of a key ends, as far as the store tells this identity."""
        with contextlib.suppress(ClientError, BotoCoreError):
            said = self._client.get_object_retention(Bucket=self._bucket.bucket, Key=key)
            return said["Retention"]["RetainUntilDate"].astimezone(UTC)
        return None

    def uploads(self) -> Iterator[tuple[str, str, datetime]]:
        """Multipart uploads that were begun and not ended: name, upload id, when begun."""
        token: dict[str, str] = {}
        while True:
            said = self._call("list_multipart_uploads", "", Prefix=self._bucket.prefix, **token)
            for item in said.get("Uploads", ()):
                name = item["Key"].removeprefix(self._bucket.prefix)
                yield name, item["UploadId"], item["Initiated"]
            if not said.get("IsTruncated"):
                return
            token = {
                "KeyMarker": said["NextKeyMarker"],
                "UploadIdMarker": said["NextUploadIdMarker"],
            }

    def abort(self, name: str, upload: str) -> None:
        """Give up a multipart upload, its parts too; one that is gone is no error."""
        with contextlib.suppress(Absent):
            self._call("abort_multipart_upload", name, UploadId=upload)

    def upload(self, name: str) -> "Upload":
        """Begin to write a large object; ends with `finish` or `abandon`."""
        return Upload(self, name)

    def begin(self, name: str) -> str:
        """Begin a multipart upload; give its id."""
        checked = self._bucket.checksums == "when_supported"
        # Said here, the parts' checksums count when the upload is completed; unsaid, stores differ.
        checks = {"ChecksumAlgorithm": "CRC32"} if checked else {}
        said = self._call("create_multipart_upload", name, **checks, **self._encryption())
        return str(said["UploadId"])

    def part(self, name: str, upload: str, number: int, content: "Part") -> "CompletedPartTypeDef":
        """Store one part; give what `complete` must be told of it."""

        def send() -> Any:
            content.seek(0)
            return self._client.upload_part(
                Bucket=self._bucket.bucket,
                Key=self._full(name),
                UploadId=upload,
                PartNumber=number,
                Body=cast(IO[bytes], content),
            )

        said = self._patiently("upload_part", name, send)
        part: CompletedPartTypeDef = {"ETag": said["ETag"], "PartNumber": number}
        if "ChecksumCRC32" in said:
            part["ChecksumCRC32"] = said["ChecksumCRC32"]
        return part

    def complete(
        self, name: str, upload: str, parts: Sequence["CompletedPartTypeDef"], size: int
    ) -> None:
        """End a multipart upload. What was answered is not believed: the object is looked at.

        An answer of 500 may come after the store has acted, one of 200 may carry an error.
        """
        for attempt in range(1, self._patience.attempts + 1):
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket.bucket,
                    Key=self._full(name),
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                )
                return
            except (ClientError, BotoCoreError) as said:
                _let_through(said)
                with contextlib.suppress(Absent):
                    if self.head(name).size == size:
                        return
                error = self._error("complete_multipart_upload", name, said)
                if attempt == self._patience.attempts or not _may_pass(said):
                    raise error from said
                self._wait(attempt)

    def _call(self, operation: str, name: str, **arguments: Any) -> Any:
        call = getattr(self._client, operation)
        if operation not in ("list_objects_v2", "delete_objects", "list_multipart_uploads"):
            arguments["Key"] = self._full(name)
        return self._patiently(
            operation, name, lambda: call(Bucket=self._bucket.bucket, **arguments)
        )

    def _patiently(self, operation: str, name: str, call: Callable[[], Any]) -> Any:
        until = time.monotonic() + self._patience.within
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return call()
            except (ClientError, BotoCoreError, OSError) as said:
                _let_through(said)
                last = attempt == self._patience.attempts or time.monotonic() > until
                if last or not _may_pass(said):
                    raise self._error(operation, name, said) from said
            self._wait(attempt)
        raise AssertionError("the last attempt returns or raises")

    @staticmethod
    def _wait(attempt: int) -> None:
        # Jitter, so that many runs do not come back together.
        proc.pause(min(20.0, 0.25 * 2**attempt) * random.uniform(0.8, 1.2))  # noqa: S311

    def _full(self, name: str) -> str:
        return f"{self._bucket.prefix}{name}"

    def _encryption(self) -> dict[str, str]:
        if self._bucket.encryption == "none":
            return {}
        key = {"SSEKMSKeyId": self._bucket.kms_key} if self._bucket.kms_key else {}
        return {"ServerSideEncryption": self._bucket.encryption, **key}

    def _error(self, operation: str, name: str, said: Exception) -> StoreError:
        where, verb = self.key(name), operation.removesuffix("_v2").replace("_", " ")
        if not isinstance(said, ClientError):
            words = " ".join(str(said).split())
            endpoint = self._bucket.endpoint or "AWS"
            return StoreError(
                f"{verb} failed: {words}",
                where=where,
                next=f"see whether {endpoint} answers from here, and what its log says",
            )
        code = str(said.response.get("Error", {}).get("Code", ""))
        words = " ".join(str(said.response.get("Error", {}).get("Message", "")).split())
        kind = Absent if code in ABSENT else Held if code in HELD else StoreError
        # With versions nothing is in the way of a newer one, or of a mark that it is deleted.
        locked = "object lock" in words.lower()
        return kind(
            f"{verb} was refused: {code}" + (f" ({words})" if words and words != code else ""),
            where=where,
            next="turn on the bucket's versions: locks without them do not let us overwrite"
            if locked
            else HOPELESS.get(code, "run again; if it stays so, see the store's log"),
        )


class Part:
    """The bytes of one part, written once and then read as a file, as often as it is sent.

    Memory of its own (an anonymous map), which goes back to the system when it is dropped: the
    allocator would keep holes of such blocks, more than the blocks themselves.
    """

    def __init__(self, room: int) -> None:
        self._map, self._room, self._size = mmap.mmap(-1, room), room, 0

    def __len__(self) -> int:
        return self._size

    @property
    def full(self) -> bool:
        """Whether it has no room left."""
        return self._size == self._room

    def fill(self, data: memoryview) -> int:
        """Take as many bytes as there is room for; give how many."""
        taken = min(len(data), self._room - self._size)
        self._map[self._size : self._size + taken] = bytes(data[:taken])
        self._size += taken
        return taken

    def read(self, size: int | None = -1) -> bytes:
        """Read on, as a file does."""
        left = self._size - self._map.tell()
        return self._map.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as a file does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._map.tell(), os.SEEK_END: self._size}[whence]
        self._map.seek(start + offset)
        return self._map.tell()

    def tell(self) -> int:
        """The place that is read next."""
        return self._map.tell()

    def drop(self) -> None:
        """Give its memory back."""
        self._map.close()


class Upload:
    """A large object on its way: written in order, sent in parts by two threads.

    Nothing is visible in the bucket before `finish`. Memory: the part that fills, and those on
    their way: two of the first size, or one of a larger one.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name
        self._sizes = _part_sizes()
        self._room = next(self._sizes)
        self._filling: Part | None = None
        self._sent, self._number, self._upload = 0, 0, ""
        self._parts: list[CompletedPartTypeDef] = []
        self._failure: BaseException | None = None
        self._work: queue.Queue[tuple[int, Part] | None] = queue.Queue()
        self._free = threading.Semaphore(2)
        self._threads: list[threading.Thread] = []

    def write(self, data: bytes) -> int:
        """Take bytes; blocks while parts are on their way. Raises what a part failed with."""
        view = memoryview(data)
        while view:
            if self._filling is None:
                self._filling = Part(self._room or self._too_many())
            view = view[self._filling.fill(view) :]
            if self._filling.full:
                self._send(self._filling)
        self._store.passed(len(data))
        return len(data)

    def flush(self) -> None:
        """Nothing: what writers of files expect to be there."""

    def finish(self) -> int:
        """Make the object exist; give its size, which the store confirmed. Raises StoreError."""
        last, self._filling = self._filling, None
        if not self._upload and (last is None or len(last) <= SMALL):
            content = _whole(last) if last else b""
            self._store.put_new(self.name, content)
            self._sent = len(content)
        else:
            if last is not None:
                self._send(last)
            self._join()
            parts = sorted(self._parts, key=lambda part: part["PartNumber"])
            self._store.complete(self.name, self._upload, parts, self._sent)
        found = self._store.head(self.name).size
        if found != self._sent:
            raise StoreError(
                f"holds {found} bytes, {self._sent} were sent",
                where=self._store.key(self.name),
                next="run again; if it stays so, this store loses data",
            )
        return self._sent

    def abandon(self) -> None:
        """Give it up: parts already sent are dropped, as far as the store lets us.

        Nobody waits for a part that hangs: its thread dies with us, its part is swept.
        """
        self._filling = None
        self._failure = self._failure or StoreError("given up", where=self._store.key(self.name))
        for _ in self._threads:
            self._work.put(None)
        if self._upload:
            with contextlib.suppress(StoreError, proc.Interrupted):
                self._store.hasty().abort(self.name, self._upload)

    def _send(self, part: Part) -> None:
        self._filling = None
        if not self._upload:
            self._upload = self._store.begin(self.name)
            for _ in range(2):
                thread = threading.Thread(target=self._sender, daemon=True)
                thread.start()
                self._threads.append(thread)
        # With larger parts only one is on its way, so that memory stays what it was.
        alone = self._room > PART_SIZES[0][1]
        self._free.acquire()
        self._raise()
        self._number += 1
        self._sent += len(part)
        self._work.put((self._number, part))
        if alone:
            self._work.join()
        self._room = next(self._sizes, 0)

    def _too_many(self) -> NoReturn:
        raise StoreError(
            f"has reached the {self._number} parts that S3 allows, {self._sent} bytes",
            where=self._store.key(self.name),
            next="this much needs the wiki's attachments in S3 itself, or another engine",
        )

    def _sender(self) -> None:
        while (item := self._work.get()) is not None:
            number, content = item
            try:
                if not self._failure:
                    told = self._store.part(self.name, self._upload, number, content)
                    self._parts.append(told)
            except BaseException as error:
                self._failure = error
            finally:
                content.drop()
                self._free.release()
                self._work.task_done()

    def _join(self) -> None:
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._raise()

    def _raise(self) -> None:
        if self._failure:
            raise self._failure


class Hashed:
    """A sink that counts and hashes what passes to the next one."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write, self._hash, self.size = write, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._hash.update(data)
        self.size += len(data)
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: what writers of files expect to be there."""

    @property
    def sha256(self) -> str:
        """Of all so far, in hex."""
        return self._hash.hexdigest()


def probe(store: Store) -> None:
    """See whether a bucket grants what a run needs; StoreError names what it does not.

    Writes one small object, `probe/writer`, again and again: the writer may not delete.
    """
    name, quick = "probe/writer", store.hasty()
    with _right("put", "s3:PutObject"):
        etag = quick.put(name, b"xwiki-stack looks whether it may write here\n")
    with _right("head", "s3:GetObject"):
        quick.head(name)
    with _right("list", "s3:ListBucket"):
        if not any(item.key == name for item in quick.listed("probe/")):
            raise StoreError("does not list what was just written", where=store.key(name))
    for condition, words in (({"absent": True}, "If-None-Match"), ({"etag": '"0"'}, "If-Match")):
        try:
            quick.put(name, b"must not be written\n", **condition)
        except Held:
            continue
        raise StoreError(
            f"ignores conditional writes ({words}): two runs could overwrite each other",
            where=store.key(name),
            next="update the store, or use one that knows them",
        )
    with _right("conditional put", "s3:PutObject with If-Match"):
        _overwrite(quick, name, etag)


def _overwrite(store: Store, name: str, etag: str) -> None:
    """Write in the place of a known version; another run that probes right now may come between."""
    for _ in range(9):
        with contextlib.suppress(Held):
            store.put(name, b"xwiki-stack may write here\n", etag=etag)
            return
        etag = store.head(name).etag
    store.put(name, b"xwiki-stack may write here\n", etag=etag)


def _let_through(said: Exception) -> None:
    """Raise what a deadline raised inside of a call: botocore takes it for a broken connection."""
    if isinstance(said, HTTPClientError) and isinstance(said.__context__, StackError):
        raise said.__context__ from None


@contextlib.contextmanager
def _right(words: str, right: str) -> Iterator[None]:
    try:
        yield
    except (Absent, Held) as error:
        raise StoreError(f"{words} fails: {error.what}", where=error.where) from error
    except StoreError as error:
        if "AccessDenied" in error.what or ": 403" in error.what:
            raise StoreError(
                f"the right to {words} is missing ({right}): {error.what}",
                where=error.where,
                next=f"grant it {right}",
            ) from error
        raise


def _whole(part: Part) -> bytes:
    part.seek(0)
    content = part.read()
    part.drop()
    return content


def _part_sizes() -> Iterator[int]:
    for count, size in PART_SIZES:
        for _ in range(count):
            yield size


def _may_pass(said: Exception) -> bool:
    """Whether waiting can help."""
    if isinstance(said, SSLError):
        return False
    if not isinstance(said, ClientError):
        return isinstance(
            said,
            HTTPClientError | NoConnection | ResponseStreamingError | IncompleteReadError | OSError,
        )
    code = str(said.response.get("Error", {}).get("Code", ""))
    status = said.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in HOPELESS or code in ABSENT or code in HELD or status in (401, 403, 507):
        return False
    return status >= 500 or status in (0, 200, 408, 429) or code in ("SlowDown", "RequestTimeout")


def _unheard(_count: int) -> None:
    pass


def _client(config: Config, patience: Patience) -> "S3Client":
    bucket: Bucket = config.store
    token = bucket.session_token_file
    checks = {
        "request_checksum_calculation": bucket.checksums,
        "response_checksum_validation": bucket.checksums,
    }
    # botocore's own choice is the path wherever there is an endpoint.
    named = "virtual" if bucket.endpoint else "auto"
    style = {"addressing_style": "path" if bucket.path_style else named}
    settings = ClientConfig(
        connect_timeout=patience.connect,
        read_timeout=patience.silence,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3=style,  # type: ignore[arg-type]
        max_pool_connections=4,
        **checks,  # type: ignore[arg-type]
    )
    core = BotocoreSession()
    core.register_component("data_loader", _models())
    session = boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=secret(bucket.access_key_file, config, "store.accessKeyFile"),
        aws_secret_access_key=secret(bucket.secret_key_file, config, "store.secretKeyFile"),
        aws_session_token=secret(token, config, "store.sessionTokenFile") if token else None,
        region_name=bucket.region,
    )
    return session.client(
        "s3",
        endpoint_url=bucket.endpoint or None,
        config=settings,
        verify=authority(config),
    )


@cache
def _models() -> Loader:
    """S3 as botocore describes it, read once: more than half of what a client costs."""
    return create_loader()
