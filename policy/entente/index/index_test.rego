package entente.index_test

import data.entente.index

_data := {
	"agreements": {
		"a": {
			"x": {"consumer": "c", "topics": ["m"]},
			"y": {"consumer": "d", "topics": ["m", "n"]},
			"z": {"consumer": "c"},
			"odd": {},
			"none": null,
		},
		"b": {"x": {"consumer": "c", "topics": ["m", "n"]}},
	},
	"record_types": {"a": {"t": {"publishers": ["a", "b"]}}, "b": {"t": {"publishers": ["c"]}, "u": {"publishers": []}}},
}

# What the broker derives from `_data`.
_derived := {
	"form": 1,
	"agreements": {"a": {"c": ["x", "z"], "d": ["y"]}, "b": {"c": ["x"]}},
	"granting": {"c": {"m": ["a", "b"], "n": ["b"]}, "d": {"m": ["a"], "n": ["a"]}},
	"record_types": {"t": ["a", "b"], "u": ["b"]},
	"publishers": {"a": {"t": {"a": true, "b": true}}, "b": {"t": {"c": true}, "u": {}}},
}

_answers := {
	"ids": {[owner, consumer]: sort(index.agreement_ids(owner, consumer)) |
		some owner in ["a", "b", "nobody", null, 1]
		some consumer in ["c", "d", "nobody", null, []]
	},
	"granting": {[consumer, topic]: index.granting(consumer, topic) |
		some consumer in ["c", "d", "nobody", null, []]
		some topic in ["m", "n", "nowhere", null, {}]
	},
	"owners": {type: index.type_owners(type) | some type in ["t", "u", "v", null, {}]},
	"publishers": {[owner, type, agency] |
		some owner in ["a", "b", "nobody", null]
		some type in ["t", "u", "v", null]
		some agency in ["a", "b", "c", null]
		index.has_publisher(owner, type, agency)
	},
}

test_the_same_is_found_with_and_without_an_index if {
	searched := _answers with data.data as _data with data.index as {}
	found := _answers with data.data as _data with data.index as _derived
	searched == found
	searched.ids[["a", "c"]] == ["x", "z"]
	searched.ids[["nobody", "c"]] == []
	searched.granting[["c", "m"]] == {"a", "b"}
	searched.granting[["c", "n"]] == {"b"}
	searched.granting[["c", "nowhere"]] == set()
	searched.granting[["nobody", "m"]] == set()
	searched.owners == {"t": {"a", "b"}, "u": {"b"}, "v": set(), null: set(), {}: set()}
	searched.publishers == {["a", "t", "a"], ["a", "t", "b"], ["b", "t", "c"]}
}

test_an_index_of_another_form_is_not_used if {
	index.agreement_ids("a", "c") == ["x", "z"] with data.data as _data with data.index as {"form": 2}
}
