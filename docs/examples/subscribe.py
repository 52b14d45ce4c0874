"""Take records of a topic into one's own system: everything that can come, and every way in which it can end.

subscribe.py TOPIC PURPOSE SUBSCRIPTION LIMIT; the connection comes from the environment, as for the command line.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from connectors.client import Client
from connectors.cloudevents import data_of
from connectors.delivery import Delivery
from connectors.errors import EntenteClientError, PermissionDenied, PositionExpired, TakenOver


def keep(delivery: Delivery) -> None:
    """Store it under its source and id: a delivery may come twice."""
    if (record := delivery.record) is not None:
        print("record of", record.source, "with", len(json.dumps(data_of(record))), "characters")
        print("we must", *delivery.disclosure.obligations)
    elif (notice := delivery.notice) is not None:
        print("there is a", notice.type, "of", notice.owner, "and we ask", notice.contact)
    elif (withdrawal := delivery.withdrawal) is not None:
        print("stop using", withdrawal.id, "of", withdrawal.source)
    elif delivery.policy_change is not None:
        print("what follows is shown otherwise")


async def main(topic: str, purpose: str, subscription: str, limit: str) -> None:
    async with (
        Client(
            os.environ["ENTENTE_ENDPOINT"],
            token_file=Path(os.environ["ENTENTE_TOKEN_FILE"]),
            ca_file=Path(os.environ["ENTENTE_CA_FILE"]),
        ) as exchange,
        exchange.subscribe(topic, purpose, subscription=subscription, limit=int(limit)) as stream,
    ):
        async for delivery in stream:
            keep(delivery)
            await stream.ack(delivery)  # only now: what is not acknowledged comes again


try:
    asyncio.run(main(*sys.argv[1:]))
except TakenOver:
    sys.exit("another process has this subscription now")
except PositionExpired:
    sys.exit("records are gone that we have not seen; decide, then seek or use another subscription")
except PermissionDenied as error:
    sys.exit(f"not permitted (any more), ask the topic's owner: {error}")
except EntenteClientError as error:
    sys.exit(str(error))
