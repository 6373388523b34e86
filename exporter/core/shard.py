"""Which exporter watches a pipeline, where several share one configuration.

Each of them decides alone, and all decide alike, so that every pipeline has exactly one: the shard that draws the
highest number for it (rendezvous hashing). One more shard draws a number too and takes what it wins; nothing moves
between the others, and one in n + 1 pipelines moves at all.
"""

import re
from hashlib import blake2b

import msgspec

SHARDS = 1000
"""As many as there may be."""

_ORDINAL = re.compile(r".*-([0-9]{1,9})")


class Shard(msgspec.Struct, frozen=True):
    """One of several exporters."""

    index: int
    """From 0, below `total`."""
    total: int

    def owns(self, provider: str, scope: str, pipeline: str) -> bool:
        """Whether a pipeline (by the vendor's ids of its project and its own) is this shard's and no other's."""
        key = f"{provider}\0{scope}\0{pipeline}".encode()
        # Of two that draw the same the first wins, so that one more shard changes nothing between them.
        return max(range(self.total), key=lambda index: _draw(index, key)) == self.index


def _draw(index: int, key: bytes) -> bytes:
    """The number that a shard draws: the same in every process, which Python's own hash is not."""
    return blake2b(key, digest_size=8, salt=index.to_bytes(blake2b.SALT_SIZE, "big")).digest()


def chosen(index: int | None, total: int | None, host: str) -> Shard | None:
    """The shard that the flags mean, None if they mean none.

    Without an index it is the ordinal in the name of this machine, as a StatefulSet names its pods: `exporter-2`.

    Raises:
        ValueError: they mean no shard that there can be; with words.

    """
    if total is None:
        if index is not None:
            raise ValueError(f"--shard.index {index} without --shard.total (give both, or neither)")
        return None
    if index is not None:
        if index >= total:
            raise ValueError(
                f"--shard.index {index} is not below --shard.total {total} (the first shard is 0)"
            )
        return Shard(index, total)
    # A pod may be told its whole domain name as its host's.
    name = host.partition(".")[0]
    ordinal = _ORDINAL.fullmatch(name)
    if ordinal is None:
        raise ValueError(
            f"--shard.total {total} without --shard.index, and this machine's name {name!r} does not end in the ordinal "
            "of a StatefulSet's pod (give --shard.index)"
        )
    if int(ordinal[1]) >= total:
        raise ValueError(
            f"the ordinal of this machine's name {name!r} is not below --shard.total {total} "
            "(run as many replicas as there are shards, or give --shard.index)"
        )
    return Shard(int(ordinal[1]), total)
