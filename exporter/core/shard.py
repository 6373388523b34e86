"""Sharding: which of several exporters with the same configuration polls a pipeline.

Every shard computes the same owner without communication, by rendezvous hashing: the shard with the highest hash for a
pipeline owns it. If a shard is added to n others, it takes over one in n + 1 pipelines, and no pipeline moves between
the others.
"""

import re
from hashlib import blake2b

import msgspec

SHARDS = 1000
"""Maximum number of shards."""

_ORDINAL = re.compile(r".*-([0-9]{1,9})")


class Shard(msgspec.Struct, frozen=True):
    """One of several exporters that share a configuration."""

    index: int
    """From 0, below `total`."""
    total: int

    def owns(self, provider: str, scope: str, pipeline: str) -> bool:
        """Return whether this shard polls a pipeline. `scope` and `pipeline` are the vendor's ids of project and pipeline."""
        return owner(self.total, provider, scope, pipeline) == self.index


def owner(total: int, provider: str, scope: str, pipeline: str) -> int:
    """Return the index of the shard that polls a pipeline."""
    key = f"{provider}\0{scope}\0{pipeline}".encode()
    # `max` returns the first of equal hashes, so that another shard does not change the order of the others.
    return max(range(total), key=lambda index: _hash(index, key))


def _hash(index: int, key: bytes) -> bytes:
    """Return a hash that is the same in every process, unlike Python's own."""
    return blake2b(key, digest_size=8, salt=index.to_bytes(blake2b.SALT_SIZE, "big")).digest()


def chosen(index: int | None, total: int | None, host: str) -> Shard | None:
    """Return the shard that the flags select, or None if they are not given.

    Without `index`, use the ordinal at the end of the host name, as in the names of a StatefulSet's pods: `exporter-2`.

    Raises:
        ValueError: The flags select no valid shard. The message is for the user.

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
    # The host name of a pod can be its full domain name.
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
