"""What lies in the bucket: zstd inside age. Bytes flow through; nothing is kept, nothing spooled.

    producer -> sha256 (plain) -> zstd -> age -> sha256 (stored) -> upload
    read -> sha256 (stored) -> age -> zstd -> sha256 (plain) -> consumer

Compressed first, since encrypted bytes do not compress. age's chunks are authenticated, so a
stream that was cut does not open (its last chunk is marked).
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import pyrage
import zstandard

from xwiki_stack.backup.store import Hashed, Store
from xwiki_stack.errors import DamagedError, IntentError

LEVEL = 3
"""Of zstd: one core compresses dumps about as fast as mysqldump writes them."""

AHEAD = 8
"""Blocks of at most 128 KiB that are opened before somebody takes them."""


@dataclass(frozen=True)
class Facts:
    """Of an object: plain and stored size in bytes, SHA-256 in hex of both."""

    plain_bytes: int
    plain_sha256: str
    stored_bytes: int
    stored_sha256: str


def recipient(text: str) -> Any:
    """An age public key. Raises IntentError."""
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise IntentError(
            f"{text[:12]}... is no age public key",
            where="keys.recipients",
            allowed="age1...",
            next="write the line that `age-keygen -y` prints of the key that is to open the sets",
        ) from error


def identity(text: str, where: str) -> Any:
    """An age identity from what age-keygen writes: comments, and a line AGE-SECRET-KEY-1..."""
    lines = [line.strip() for line in text.splitlines()]
    for line in lines:
        if line.startswith("AGE-SECRET-KEY-1"):
            try:
                return pyrage.x25519.Identity.from_str(line)
            except pyrage.IdentityError as error:
                raise IntentError("is a damaged age identity", where=where) from error
    raise IntentError("holds no age identity", where=where, allowed="what age-keygen writes")


def write(store: Store, name: str, chunks: Iterable[bytes], recipients: Sequence[Any]) -> Facts:
    """Store a stream sealed. Raises whatever the producer raises, StoreError; then there is none.

    chunks: plain bytes; its generator must raise when its producer failed.
    """
    upload = store.upload(name)
    source, sink = _Compressed(chunks), Hashed(upload.write)
    try:
        try:
            pyrage.encrypt_io(cast(IO[bytes], source), cast(IO[bytes], _Guarded(sink, source)),
                              recipients)  # fmt: skip
        except (pyrage.EncryptError, OSError) as error:
            raise source.failure or error from error
        upload.finish()
    except BaseException:
        upload.abandon()
        raise
    return Facts(source.plain.size, source.plain.sha256, sink.size, sink.sha256)


def read(
    store: Store,
    name: str,
    identities: Sequence[Any],
    consume: Callable[[bytes], object],
) -> Facts:
    """Open a stored stream and give its plain bytes, in order, to `consume`.

    What was consumed proves nothing before the facts given back are those that a manifest or an
    index states: the caller compares. Raises DamagedError, StoreError, and what `consume` raises.
    """
    where = store.key(name)
    source = _Stored(store.read(name))
    sink = _Decompressed(consume)
    try:
        pyrage.decrypt_io(cast(IO[bytes], source), cast(IO[bytes], sink), identities)
    except (pyrage.DecryptError, OSError, ValueError) as error:
        failure = source.failure or sink.failure
        if isinstance(failure, zstandard.ZstdError):
            raise DamagedError("does not decompress", where=where) from error
        if failure:
            raise failure from error
        if "No matching keys" in str(error):
            raise DamagedError(
                "no key that is here opens it",
                where=where,
                next="name the file of the right age identity in keys.identityFiles",
            ) from error
        raise DamagedError(
            "does not decrypt: its bytes were changed or cut", where=where
        ) from error
    except zstandard.ZstdError as error:
        raise DamagedError("does not decompress", where=where) from error
    source.drain()
    return Facts(sink.plain.size, sink.plain.sha256, source.size, source.hashed.sha256)


@contextlib.contextmanager
def pulled(store: Store, name: str, identities: Sequence[Any]) -> Iterator["Opened"]:
    """A stored stream to be iterated, where a library pulls its input; otherwise as `read`.

    A thread opens it meanwhile, a few blocks ahead; it ends with the block.
    """
    opened = Opened(lambda take: read(store, name, identities, take))
    try:
        yield opened
    finally:
        opened.stop()


class Opened:
    """Plain bytes on their way. `facts` are there once all were taken."""

    def __init__(self, work: Callable[[Callable[[bytes], object]], Facts]) -> None:
        self.facts: Facts | None = None
        self._failure: BaseException | None = None
        self._ready: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def __iter__(self) -> Iterator[bytes]:
        self._thread.start()
        while (block := self._ready.get()) is not None:
            yield block
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Nobody takes more."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()

    def _run(self, work: Callable[[Callable[[bytes], object]], Facts]) -> None:
        try:
            self.facts = work(lambda block: self._put(bytes(block)))
        except BaseException as error:
            self._failure = error
        with contextlib.suppress(_StoppedError):
            self._put(None)

    def _put(self, block: bytes | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._ready.put(block, timeout=0.2)
        raise _StoppedError


class _StoppedError(Exception):
    """Nobody takes what was opened."""


class _Reader:
    """What the encryptor and the decryptor pull from. They would wrap a failure into their own."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._ready = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._ready and (more := self._more()) is not None:
                self._ready = memoryview(more)
        except BaseException as error:
            self.failure = error
            raise
        taken = self._ready[: size if size >= 0 else None]
        self._ready = self._ready[len(taken) :]
        return bytes(taken)

    def _more(self) -> bytes | None:
        """The next bytes, maybe none of them yet; None at the end."""
        raise NotImplementedError


class _Compressed(_Reader):
    """A reader of compressed bytes that pulls plain ones."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self.plain = Hashed(len)
        self._ended = False

    def _more(self) -> bytes | None:
        if self._ended:
            return None
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            return self._compressor.flush()
        self.plain.write(chunk)
        return self._compressor.compress(chunk)


class _Guarded:
    """Keeps what the next sink raised: the encryptor would wrap it into its own kind."""

    def __init__(self, sink: Hashed, source: _Compressed) -> None:
        self._sink, self._source = sink, source

    def write(self, data: bytes) -> int:
        try:
            return self._sink.write(data)
        except BaseException as error:
            self._source.failure = error
            raise

    def flush(self) -> None:
        pass


class _Stored(_Reader):
    """A reader of stored bytes that hashes them on the way."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self.hashed = Hashed(len)

    @property
    def size(self) -> int:
        return self.hashed.size

    def _more(self) -> bytes | None:
        block = next(self._blocks, None)
        if block is not None:
            self.hashed.write(block)
        return block

    def drain(self) -> None:
        """Hash what a decryptor did not ask for."""
        for block in self._blocks:
            self.hashed.write(block)


class _Decompressed:
    """A writer that decompresses, in pieces that stay small however well the bytes compressed."""

    def __init__(self, consume: Callable[[bytes], object]) -> None:
        self.plain = Hashed(consume)
        self._writer = zstandard.ZstdDecompressor().stream_writer(cast(IO[bytes], self.plain))
        self.failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._writer.write(data)
        except BaseException as error:
            self.failure = error
            raise
        return len(data)

    def flush(self) -> None:
        pass
