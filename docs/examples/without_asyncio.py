"""The same without asyncio: publish a report and read it as somebody else.

without_asyncio.py PUBLISHER_TOKEN_FILE READER_TOKEN_FILE; the rest of the connection comes from the environment.
"""

import os
import sys
from pathlib import Path

from connectors.blocking import BlockingClient
from connectors.cloudevents import new_record


def connect(token_file: str) -> BlockingClient:
    ca_file = Path(os.environ["ENTENTE_CA_FILE"])
    return BlockingClient(os.environ["ENTENTE_ENDPOINT"], token_file=Path(token_file), ca_file=ca_file)


publisher_token_file, reader_token_file = sys.argv[1:]

with connect(publisher_token_file) as exchange:
    report = new_record(
        type="gov.niem.crash-driver.v1",
        source="//highway-patrol/records",
        labels={"dataclassification": "amber"},
        data={"number": "4712"},
    )
    for outcome in exchange.publish("crash-reports", [report]):
        print("refused" if outcome.reason else "durable")

with (
    connect(reader_token_file) as exchange,
    exchange.subscribe("crash-reports", "emergency-response", subscription="desk") as stream,
):
    for delivery in stream:
        stream.ack(delivery)
        if delivery.record is not None:  # and not a notice, or that one was withdrawn
            print("read one of", delivery.record.source)
            break
