package entente.treatments_test

import data.entente.treatments

_keep := {"kind": "keep"}

_remove := {"kind": "remove"}

_mask := {"kind": "mask"}

_pseudonym := {"kind": "pseudonym"}

_first := {"kind": "mask", "keep_first": 2}

_last := {"kind": "mask", "keep_last": 3}

_both := {"kind": "mask", "keep_first": 1, "keep_last": 4}

test_one_treatment_is_itself if {
	every treatment in [_keep, _remove, _mask, _pseudonym, _both] {
		treatments.strictest({treatment}) == treatment
	}
}

test_order if {
	treatments.strictest({_keep, _both}) == _both
	treatments.strictest({_both, _pseudonym}) == _pseudonym
	treatments.strictest({_pseudonym, _mask}) == _mask
	treatments.strictest({_mask, _remove}) == _remove
	treatments.strictest({_keep, _remove}) == _remove
	treatments.strictest({_keep, _both, _pseudonym, _mask, _remove}) == _remove
}

test_masks_combine_to_the_fewer_characters if {
	treatments.strictest({_first, _both}) == {"kind": "mask", "keep_first": 1, "keep_last": 0}
	treatments.strictest({_last, _both}) == {"kind": "mask", "keep_first": 0, "keep_last": 3}
	treatments.strictest({_first, _last}) == _mask
	treatments.strictest({_first, _last, _pseudonym}) == _mask
}

test_no_treatment_removes if treatments.strictest(set()) == _remove

test_a_malformed_treatment_removes if {
	every odd in [
		null, "keep", 1, [], {}, {"kind": "KEEP"}, {"kind": null}, {"kind": "keep", "keep_first": 1},
		{"kind": "mask", "keep_first": -1}, {"kind": "mask", "keep_first": 1.5}, {"kind": "mask", "keep_last": "3"},
		{"kind": "mask", "keep_first": null}, {"kind": "mask", "more": 1},
	] {
		treatments.strictest({odd}) == _remove
		treatments.strictest({odd, _keep}) == _remove
		treatments.strictest({odd, _mask}) == _remove
		treatments.strictest({odd, _first}) == _remove
	}
}

test_merged_takes_the_strictest_of_all_tables if {
	tables := [{"a": _keep, "b": _keep}, {"a": _mask, "b": _keep, "c": _keep}]
	treatments.merged(["a", "b", "c", "d"], tables) == {"a": _mask, "b": _keep, "c": _remove, "d": _remove}
}

test_merged_of_no_table_removes if treatments.merged(["a"], []) == {"a": _remove}

test_uniform if {
	given := treatments.uniform(["a", "b"], _keep)
	object.keys(given) == {"a", "b"}
	every treatment in given {
		treatment == _keep
	}
}

test_tightened_only_makes_stricter if {
	agreed := {"a": _keep, "b": _remove, "c": _pseudonym}
	treatments.tightened(agreed, {
		{"marking": "a", "treatment": _mask},
		{"marking": "b", "treatment": _keep},
		{"marking": "c", "treatment": {"kind": "unknown"}},
		{"marking": "z", "treatment": _keep},
	}) == {"a": _mask, "b": _remove, "c": _remove}
	treatments.tightened(agreed, set()) == agreed
}
