"""Outputs of the decisions document that are no decision, by what is wrong with them."""

from __future__ import annotations

from tests.fakes.rulebook import output

MALFORMED: dict[str, list[dict[str, object]]] = {
    "vanishes": [],
    "twice": [output(effect="release"), output(effect="release")],
    "contradicts": [output(effect="release"), output()],
    "unknown-key": [output(effect="release", allow=True)],
    "unknown-effect": [output(effect="permit")],
    "effect-of-other-type": [output(effect=True)],
    "no-effect": [{k: v for k, v in output().items() if k != "effect"}],
    "no-treatments": [{k: v for k, v in output().items() if k != "treatments"}],
    "no-reasons": [{k: v for k, v in output().items() if k != "reasons"}],
    "treatments-of-other-type": [output(treatments=[])],
    "treatment-of-other-type": [output(treatments={"pii": "keep"})],
    "treatment-unknown": [output(treatments={"pii": {"kind": "show"}})],
    "treatment-with-unknown-key": [output(treatments={"pii": {"kind": "mask", "keep": 4}})],
    "keep-on-keep": [output(treatments={"pii": {"kind": "keep", "keep_first": 1}})],
    "negative-keep": [output(treatments={"pii": {"kind": "mask", "keep_first": -1}})],
    "keep-as-text": [output(treatments={"pii": {"kind": "mask", "keep_first": "1"}})],
    "keep-as-fraction": [output(treatments={"pii": {"kind": "mask", "keep_first": 1.5}})],
    "keep-too-much": [output(treatments={"pii": {"kind": "mask", "keep_last": 65}})],
    "obligations-of-other-type": [output(obligations="none")],
    "obligation-of-other-type": [output(obligations=[1])],
    "endless-obligations": [output(obligations=[str(n) for n in range(257)])],
    "long-reason": [output(reasons=["x" * 257])],
    "until-no-time": [output(valid_until="tomorrow")],
    "until-without-zone": [output(valid_until="2026-01-01T00:00:00")],
    "until-no-date": [output(valid_until="2026-02-30T00:00:00Z")],
    "until-null": [output(valid_until=None)],
    "not-before-number": [output(not_before=0)],
}
