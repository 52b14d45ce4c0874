"""The quota of new label sets: endless ones burden only the owner that makes them (design rule 8)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Bucket:
    tokens: float
    since_s: float
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


class LabelSetQuota:
    """For each owner a bucket of `per_minute` tokens that refills evenly; each label set takes one when it is new.

    The newest `known_limit` label sets of each owner are known; one that was forgotten counts as new again.
    """

    def __init__(self, per_minute: int, known_limit: int) -> None:
        self._per_minute = per_minute
        self._known_limit = known_limit
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, owner: str, label_set: bytes, now_s: float) -> bool:
        """Whether a question about this label set may be asked now; `now_s` is monotonic."""
        bucket = self._buckets.setdefault(owner, _Bucket(self._per_minute, now_s))
        digest = hashlib.blake2b(label_set, digest_size=16).digest()
        if digest in bucket.known:
            bucket.known.move_to_end(digest)
            return True
        refill = (now_s - bucket.since_s) * self._per_minute / 60
        bucket.tokens, bucket.since_s = min(self._per_minute, bucket.tokens + refill), now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        bucket.known[digest] = None
        if len(bucket.known) > self._known_limit:
            bucket.known.popitem(last=False)
        return True
