"""Keep the receipts of what is delivered, and ask later whether the ledger still accounts for all of it.

receipts.py FILE; the connection comes from the environment, as for the command line.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

from connectors.client import Client
from protos.entente.v1.ledger_pb2 import ReceiptStanding


async def main(file: Path) -> None:
    async with Client(
        os.environ["ENTENTE_ENDPOINT"],
        token_file=Path(os.environ["ENTENTE_TOKEN_FILE"]),
        ca_file=Path(os.environ["ENTENTE_CA_FILE"]),
    ) as exchange:
        async with exchange.subscribe(
            "crash-reports", "emergency-response", limit=1, receipts=file
        ) as stream:
            async for _ in stream:
                pass  # the receipt was in the file before the delivery came here
        receipts = [base64.b64decode(json.loads(line)["receipt"]) for line in file.open()]
        for checked in await exchange.ledger.check_receipts(receipts):
            print(ReceiptStanding.Name(checked.standing))


asyncio.run(main(Path(sys.argv[1])))
