"""Assemble a gzip page from separately compressed blocks, which are reused until they change.

A block is raw deflate (RFC 1951) that ends at a byte boundary without being final, so blocks can be concatenated. The
checksum of the page is combined from those of the blocks. The page is a single gzip member, because curl and many
libraries silently read only the first of several. ISA-L compresses these pages ten times as fast as level 4 of zlib, to
the same size.
"""

from collections.abc import Iterable, Iterator

import msgspec
from isal import isal_zlib

_LEVEL = 1
"""On /metrics pages, level 1 compresses as well as level 4 of zlib, level 0 is 50 % larger, and level 2 gains nothing."""
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Gzip header: deflate, no file name, no time, unknown operating system (RFC 1952)."""
_FINAL_BLOCK = b"\x03\x00"
"""An empty deflate block with the final bit."""


class Deflated(msgspec.Struct, frozen=True, gc=False):
    """A block in compressed form (raw deflate), with what the gzip trailer needs."""

    data: bytes
    crc: int
    """CRC-32 of the uncompressed bytes."""
    length: int
    """Number of uncompressed bytes."""

    @classmethod
    def of(cls, data: bytes) -> "Deflated":
        """Compress a block."""
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        compressed = compressor.compress(data) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
        return cls(compressed, isal_zlib.crc32(data), len(data))


def member(blocks: Iterable[Deflated]) -> Iterator[bytes]:
    """Yield the pieces of a gzip member that consists of these blocks."""
    crc = length = 0
    yield _HEADER
    for block in blocks:
        yield block.data
        crc = isal_zlib.crc32_combine(crc, block.crc, block.length)
        length += block.length
    yield _FINAL_BLOCK + crc.to_bytes(4, "little") + (length % 2**32).to_bytes(4, "little")
