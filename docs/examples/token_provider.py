"""Ask one's own issuer for tokens: the client calls the function whenever the token at hand is near its end.

Here the issuer is the development issuer that `entente init` made.
"""

import asyncio
import os
from pathlib import Path

from connectors.client import Client

COMMAND = "entente token --agency ems --role paramedic --purpose emergency-response --clearance red --ttl 15m"


async def ask_the_issuer() -> str:
    """A JWT. What this raises is told as TOKEN_MISSING, without its text."""
    asked = await asyncio.create_subprocess_exec(*COMMAND.split(), stdout=asyncio.subprocess.PIPE)
    token, _ = await asked.communicate()
    return token.decode()


async def main() -> None:
    async with Client(
        os.environ["ENTENTE_ENDPOINT"],
        token_provider=ask_the_issuer,
        ca_file=Path(os.environ["ENTENTE_CA_FILE"]),
    ) as exchange:
        print("we are", (await exchange.who_am_i()).agency)


asyncio.run(main())
