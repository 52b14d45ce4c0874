# METADATA
# title: Treatments
# description: |
#   From least to most strict: `keep`, a `mask` that keeps characters, `pseudonym`, a full `mask`, `remove`.
#   Anything that is not a well-formed treatment counts as `remove`.
package entente.treatments

# METADATA
# title: The strictest of a set of treatments
# description: |
#   All masks combine first, to the fewest characters on each side. An empty set gives `remove`.
strictest(treatments) := _named(max({_rank(treatment) | some treatment in treatments}), _remove) if {
	every treatment in treatments {
		object.get(treatment, "kind", "") != "mask"
	}
} else := _named(max({_rank(treatment) | some treatment in (plain | {mask})}), mask) if {
	masks := {treatment | some treatment in treatments; treatment.kind == "mask"}
	plain := treatments - masks
	mask := _fewest(masks)
}

# METADATA
# title: The treatment of each marking under several agreements
# description: |
#   `agreements` are treatment tables (marking to treatment). The strictest counts, and a marking that one
#   of the tables does not mention is removed.
merged(markings, tables) := {marking: treatment |
	some marking in markings
	treatment := strictest({object.get(table, marking, _remove) | some table in tables})
}

# METADATA
# title: One treatment for each marking
uniform(markings, treatment) := {marking: treatment |
	some marking in markings
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

default _rank(_) := 4

_rank({"kind": "keep"}) := 0

_rank({"kind": "pseudonym"}) := 2

_rank({"kind": "mask"}) := 3

_rank({"kind": "mask", "keep_first": first, "keep_last": last}) := 1 if first + last > 0

# The treatment of a rank; `mask` is what ranks 1 and 3 stand for.
default _named(_, _) := {"kind": "remove"}

_named(0, _) := {"kind": "keep"}

_named(1, mask) := mask

_named(2, _) := {"kind": "pseudonym"}

_named(3, _) := {"kind": "mask"}

# One mask for several; one that is not well-formed makes it `remove`.
default _fewest(_) := {"kind": "remove"}

_fewest(masks) := _mask(first, last) if {
	every mask in masks {
		_well_formed(mask)
	}
	first := min({object.get(mask, "keep_first", 0) | some mask in masks})
	last := min({object.get(mask, "keep_last", 0) | some mask in masks})
}

_mask(0, 0) := {"kind": "mask"}

_mask(first, last) := {"kind": "mask", "keep_first": first, "keep_last": last} if first + last > 0

_well_formed(mask) if {
	object.keys(mask) - {"keep_first", "keep_last", "kind"} == set()
	every side in ["keep_first", "keep_last"] {
		_is_count(object.get(mask, side, 0))
	}
}

_is_count(value) if {
	is_number(value)
	value >= 0
	floor(value) == value
}
