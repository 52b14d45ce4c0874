"""Redaction of JSON documents: which fields exist for whom, and in what form (design: Records).

Parts, in the order in which a record meets them:

* `accept`: what a document must be like at publish, so that it can be redacted exactly;
* `paths`, `fieldmap`: a record type's field markings, compiled;
* `plan`: a field map with one decision's treatments applied, compiled once and shared;
* `apply`: one stored document and a plan give the bytes that a consumer receives;
* `pseudonym`: the keyed function behind the treatment of that name;
* `unreviewed`: what an owner is told about fields that its field map does not name.
"""
