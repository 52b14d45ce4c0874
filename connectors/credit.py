"""How much a stream has asked for, what it has used of that, and when it asks for more."""

from __future__ import annotations

from connectors.delivery import StreamOptions
from protos.entente.v1 import exchange_pb2 as pb


class CreditWindow:
    """Of one stream over all its connections: what is outstanding goes with its connection, the limit holds for all."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._handed_out = 0
        self._granted = 0
        self._used_records = 0
        self._used_bytes = 0

    @property
    def outstanding(self) -> int:
        """Records that were granted and not yet handed out."""
        return self._granted

    @property
    def at_limit(self) -> bool:
        """Whether as many records were handed out as were wanted."""
        return self._options.limit is not None and self._handed_out >= self._options.limit

    def begin(self) -> pb.Credit:
        """The credit of a new connection."""
        self._granted = self._used_records = self._used_bytes = 0
        self._granted = min(self._options.max_in_flight, self._grantable())
        return pb.Credit(records=self._granted, bytes=self._options.max_in_flight_bytes)

    def use(self, size_bytes: int) -> None:
        """Note that a record was handed out."""
        self._handed_out += 1
        self._granted -= 1
        self._used_records += 1
        self._used_bytes += size_bytes

    def again(self) -> pb.Credit | None:
        """The credit of what was handed out, once half of either window is used."""
        options = self._options
        if (
            self._used_records < options.max_in_flight / 2
            and self._used_bytes < options.max_in_flight_bytes / 2
        ):
            return None
        records = min(self._used_records, self._grantable())
        credit = pb.Credit(records=records, bytes=self._used_bytes)
        self._granted += records
        self._used_records = self._used_bytes = 0
        return credit

    def _grantable(self) -> int:
        limit = self._options.limit
        return self._options.max_in_flight if limit is None else limit - self._handed_out - self._granted
