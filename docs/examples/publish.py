"""Publish a report as often as this program is started: its id comes from the report, so the exchange has it once.

publish.py FILE NUMBER REVISION; the connection comes from the environment, as for the command line.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from connectors.client import Client
from connectors.cloudevents import JsonValue, id_from, new_record
from connectors.errors import EntenteClientError


async def main(data: JsonValue, number: str, revision: str) -> None:
    report = new_record(
        type="gov.niem.crash-driver.v1",
        source="//highway-patrol/records",
        id=id_from("crash", number, revision),
        partition_key=number,  # keeps the order of one report's revisions
        labels={"dataclassification": "amber"},
        data=data,
    )
    async with Client(
        os.environ["ENTENTE_ENDPOINT"],
        token_file=Path(os.environ["ENTENTE_TOKEN_FILE"]),
        ca_file=Path(os.environ["ENTENTE_CA_FILE"]),
    ) as exchange:
        async with exchange.publisher("crash-reports") as publisher:
            sent = await publisher.send(report)
            # Here a program would go on to send more; the block ends when all are answered.
        outcome = sent.result()
    if (error := outcome.error()) is not None:
        raise error
    print("was there before:" if outcome.duplicate else "published:", outcome.id)


file, *key = sys.argv[1:]
try:
    asyncio.run(main(json.loads(Path(file).read_text()), *key))
except EntenteClientError as error:  # IdReused: another report was published as this revision
    sys.exit(str(error))
