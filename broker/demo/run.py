"""Runs the demo: publish as two agencies, subscribe as five, read the ledger, compare with what is promised."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from broker.cli.settings import Given, resolve
from broker.core.redact.paths import format_path, parse_path
from broker.demo.observe import Observation, observe
from broker.demo.process import BackendName, DemoFailed, prepared, run_until_done, served, topic_prefix
from broker.demo.revocation import revocation_faults, revoke
from broker.demo.samples import CRASH_REPORTS, TOPICS, Publication, publications
from broker.demo.story import PRINCIPALS, Revocation, Story, expected_count, find_faults
from connectors.client import Client
from connectors.errors import EntenteClientError
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Originals = Mapping[tuple[str, str], CloudEvent]
"""Published records by source and id."""


def run_demo(backend: BackendName, kafka: str | None, *, progress: Callable[[str], None]) -> Story:
    """The whole demo, from an empty directory to a checked story. Raises DemoFailed."""
    begun_s = time.monotonic()
    everything = publications()
    with prepared(backend, kafka) as config:
        progress("starting an exchange")
        with served(config):
            progress("publishing and subscribing")
            try:
                published, seen, markings = run_until_done(partial(_exchange, config, everything))
                progress("revoking an agreement, after a simulation of what that does")
                revocation = run_until_done(partial(_revoke, config))
            except EntenteClientError as error:
                raise DemoFailed(str(error)) from None
        progress("reading the ledger")
        entries = run_until_done(partial(count_ledger, config))
        if kafka is not None:
            progress(
                f"topics that begin with '{topic_prefix(config)}' remain on {kafka}; delete them if you like"
            )
    received = {key: observation.received for key, observation in seen.items()}
    views = {name: seen[name, CRASH_REPORTS].last_content for name in ("ems", "transport")}
    faults = (*find_faults(published, received, markings, entries), *revocation_faults(revocation))
    elapsed_s = round(time.monotonic() - begun_s, 1)
    return Story(backend, published, received, views, revocation, entries, elapsed_s, faults)


async def _exchange(
    config: Path, everything: tuple[Publication, ...]
) -> tuple[dict[str, int], dict[tuple[str, str], Observation], dict[str, frozenset[str]]]:
    published = {each.topic: await _publish(config, each) for each in everything}
    originals = {(record.source, record.id): record for each in everything for record in each.records}
    found = await asyncio.gather(*(_subscribe(config, principal, originals) for principal in PRINCIPALS))
    seen = {key: observation for each in found for key, observation in each.items()}
    return published, seen, await _markings(config)


def _client(config: Path, context: str) -> Client:
    return resolve(Given(config=config, context=context), environment={}).client()


async def _revoke(config: Path) -> Revocation:
    return await revoke(partial(_client, config))


async def _publish(config: Path, publication: Publication) -> int:
    async with _client(config, publication.agency) as client:
        outcomes = await client.publish(publication.topic, publication.records)
    return sum(outcome.position is not None for outcome in outcomes)


async def _subscribe(
    config: Path, principal: str, originals: Originals
) -> dict[tuple[str, str], Observation]:
    """All topics at once, as one principal."""
    async with _client(config, principal) as client:
        purpose = PRINCIPALS[principal]
        observations = await asyncio.gather(
            *(
                observe(client, topic, purpose, expected_count(principal, topic), originals)
                for topic in TOPICS
            )
        )
    return {(principal, topic): seen for topic, seen in zip(TOPICS, observations, strict=True)}


async def _markings(config: Path) -> dict[str, frozenset[str]]:
    """The markings of the crash type's fields, which its owner may see."""
    async with _client(config, "highway-patrol") as client:
        types = await client.record_types()
    crash = next((each for each in types if each.name == "gov.niem.crash-driver.v1"), None)
    if crash is None:
        raise DemoFailed("the catalog does not show the crash type to its owner")
    return {format_path(parse_path(field.path)): frozenset(field.markings) for field in crash.fields}


async def count_ledger(config: Path) -> dict[str, int]:
    """Numbers of ledger entries by kind, read from the store itself; the exchange must have stopped."""
    from broker.app.backends import open_ledger_reader
    from broker.app.config import load_config
    from broker.core.ledger.leaf import read_leaf
    from broker.model.ledger import ReadPoint

    loaded = load_config(config)
    reader = await open_ledger_reader(loaded.backend)
    kinds: Counter[str] = Counter()
    try:
        async for page in reader.read(loaded.ledger.instance, ReadPoint()):
            kinds.update(read_leaf(entry.leaf).kind for entry in page.entries)
    finally:
        await reader.close()
    return dict(sorted(kinds.items()))
