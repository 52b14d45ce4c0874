"""Auditing: what can be found out from the ledger alone, without a running broker.

All of it works on a `LedgerReader` (an export, Kafka itself, a data directory), most of it beside an `AuditIndex`.

* `verify.verify(reader, Trust(keys, after, witnesses), tables=, workers=, progress=) -> Verification`: everything;
  `tables`: an index's file to compare with the entries (`adapters.export.tables.SqliteTables(path)`)
* `sightings.who_saw(index, source, record_id) -> Sightings`
* `sightings.what_saw(index, agency, topic=, zone_minutes=) -> list[Reception]`
* `proofs.prove(reader, index, instance, entry_index, part=) -> bytes`: an entry, or a part of it, as a file's content
* `proofs.check(document, keys) -> CheckedProof`: from such a file and public keys alone
* `receipts.check_receipts(lines, reader, index, open_receipt) -> ReceiptsChecked`
* `reading.read_entry(reader, index, instance, entry_index) -> EncodedEntry`
* `trust.read_keys(text) -> tuple[VerifierKey, ...]`: a `ledger.vkey` file

In `broker.adapters.export`: `reader.ExportReader.open(directory)`;
`writer.write_export(ExportRequest, reader, revisions, progress=) -> Exported`;
`index.SqliteAuditIndex.open(path, exchange)`, the AuditIndex port (`read_only=True` for an export's own file).
Results, findings and progress are values of `broker.model.audit`.
"""
