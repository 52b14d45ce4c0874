# METADATA
# title: Treatments
# description: |
#   From least to most strict: `keep`, a `mask` that keeps characters, `pseudonym`, a full `mask`, `remove`.
#   Anything that is not a well-formed treatment counts as `remove`.
package entente.treatments

# METADATA
# title: The strictest of a set of treatments
# description: |
#   Two masks that keep characters combine to the fewer characters on each side. An empty set gives `remove`.
strictest(treatments) := _of_rank(max(_ranks(treatments)), treatments)

# METADATA
# title: The treatment of each marking under several agreements
# description: |
#   `agreements` are treatment tables (marking to treatment). The strictest counts, and a marking that one
#   of the tables does not mention is removed.
merged(markings, tables) := {marking: treatment |
	some marking in markings
	is_string(marking)
	treatment := strictest({object.get(table, marking, _remove) | some table in tables})
}

# METADATA
# title: One treatment for each marking
uniform(markings, treatment) := {marking: treatment |
	some marking in markings
	is_string(marking)
}

# METADATA
# title: Treatments with redactions on top
# description: |
#   `redactions` are objects of `marking` and `treatment`. They make a treatment stricter, never milder, and
#   add none for a marking that the record does not have.
tightened(treatments, redactions) := treatments if {
	count(redactions) == 0
} else := {marking: treatment |
	some marking, agreed in treatments
	more := {redaction.treatment | some redaction in redactions; redaction.marking == marking}
	treatment := strictest(more | {agreed})
}

_remove := {"kind": "remove"}

_ranks(treatments) := {rank |
	some treatment in treatments
	rank := _rank(treatment)
}

default _rank(_) := 4

_rank({"kind": "keep"}) := 0

_rank({"kind": "pseudonym"}) := 2

_rank(treatment) := 1 if {
	_is_mask(treatment)
	_kept(treatment) > 0
}

_rank(treatment) := 3 if {
	_is_mask(treatment)
	_kept(treatment) == 0
}

_is_mask(treatment) if {
	treatment.kind == "mask"
	object.keys(treatment) - {"keep_first", "keep_last", "kind"} == set()
	every side in ["keep_first", "keep_last"] {
		_is_count(object.get(treatment, side, 0))
	}
}

_is_count(value) if {
	is_number(value)
	value >= 0
	floor(value) == value
}

_kept(mask) := object.get(mask, "keep_first", 0) + object.get(mask, "keep_last", 0)

default _of_rank(_, _) := {"kind": "remove"}

_of_rank(0, _) := {"kind": "keep"}

_of_rank(1, treatments) := _fewest({treatment | some treatment in treatments; treatment.kind == "mask"})

_of_rank(2, _) := {"kind": "pseudonym"}

_of_rank(3, _) := {"kind": "mask"}

_fewest(masks) := {"kind": "mask", "keep_first": first, "keep_last": last} if {
	first := min({object.get(mask, "keep_first", 0) | some mask in masks})
	last := min({object.get(mask, "keep_last", 0) | some mask in masks})
}
