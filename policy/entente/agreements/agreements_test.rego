package entente.agreements_test

import data.entente.agreements

_agreement := {
	"consumer": "ems",
	"topics": ["t"],
	"purposes": ["p"],
	"highest": "amber",
	"grants": "records",
	"treatments": {},
	"obligations": [],
	"from": "2026-01-01T00:00:00Z",
	"until": null,
	"history": false,
}

_ids(owned, topic, purpose, classification) := ids if {
	ids := agreements.covering("owner", "ems", "records", topic, purpose, classification) with data.data.agreements as {"owner": owned}
}

test_covering if {
	_ids({"a": _agreement}, "t", "p", "clear") == {"a"}
	_ids({"a": _agreement}, "t", "p", "amber") == {"a"}
	_ids([_agreement], "t", "p", "amber") == {0}
}

test_covering_demands_topic_purpose_classification_consumer_and_grant if {
	_ids({"a": _agreement}, "u", "p", "clear") == set()
	_ids({"a": _agreement}, "t", "q", "clear") == set()
	_ids({"a": _agreement}, "t", "p", "red") == set()
	_ids({"a": object.union(_agreement, {"consumer": "transport"})}, "t", "p", "clear") == set()
	_ids({"a": object.union(_agreement, {"grants": "notice"})}, "t", "p", "clear") == set()
}

test_covering_of_missing_values_is_empty if {
	every odd in [null, "", 1, ["t"]] {
		_ids({"a": _agreement}, odd, "p", "clear") == set()
		_ids({"a": _agreement}, "t", odd, "clear") == set()
		_ids({"a": _agreement}, "t", "p", odd) == set()
	}
	agreements.covering(null, "ems", "records", "t", "p", "clear") == set()
	agreements.covering("owner", null, "records", "t", "p", "clear") == set()
}

test_an_agreement_that_is_not_in_order_applies_to_nothing if {
	every change in [
		{"highest": "secret"}, {"grants": "everything"}, {"from": "2026-01-01"}, {"from": null},
		{"from": "2026-01-01T00:00:00+00:00"}, {"from": "2026-01-01T00:00:00.0Z"}, {"from": "2026-02-30T00:00:00Z"},
		{"from": "2026-01-01T24:00:01Z"}, {"until": "later"}, {"until": "2025-12-31T00:00:00Z"},
		{"until": "2026-01-01T00:00:00Z"}, {"until": 2027}, {"treatments": null}, {"obligations": "x"}, {"topics": "t"},
	] {
		_ids({"a": object.union(object.remove(_agreement, object.keys(change)), change)}, "t", "p", "clear") == set()
	}
	every key in object.keys(_agreement) - {"history"} {
		_ids({"a": object.remove(_agreement, [key])}, "t", "p", "clear") == set()
	}
}

test_one_that_is_not_in_order_does_not_spoil_the_others if {
	_ids({"a": _agreement, "b": {}, "c": null, "d": 1}, "t", "p", "clear") == {"a"}
}

test_naming_finds_notices_too if {
	notice := object.union(_agreement, {"grants": "notice"})
	agreements.naming("owner", "ems", "t", "p") == [notice] with data.data.agreements as {"owner": {"a": notice}}
	agreements.naming("owner", "ems", "t", "q") == [] with data.data.agreements as {"owner": {"a": notice}}
}

test_named if {
	agreements.named("owner", {"a"}) == [_agreement] with data.data.agreements as {"owner": {"a": _agreement, "b": {}}}
	agreements.named("owner", {0}) == [_agreement] with data.data.agreements as {"owner": [_agreement]}
}

test_obligations_are_united if {
	agreements.obligations([{"obligations": ["x", "y"]}, {"obligations": ["y", "z", 1]}]) == {"x", "y", "z"}
}

_between(from, until, history) := {"from": from, "until": until, "history": history}

test_the_period_is_the_one_in_which_all_hold if {
	agreements.period([_between("2026-01-01T00:00:00Z", null, true)]) == {}
	agreements.period([_between("2026-01-01T00:00:00Z", null, false)]) == {"not_before": "2026-01-01T00:00:00Z"}
	agreements.period([
		_between("2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z", false),
		_between("2026-06-01T00:00:00Z", "2027-01-01T00:00:00Z", false),
		_between("2026-09-01T00:00:00Z", null, true),
	]) == {"not_before": "2026-06-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z"}
}

test_history_opens_only_where_it_says_true if {
	every history in [false, null, "true", 1] {
		agreements.period([_between("2026-01-01T00:00:00Z", null, history)]) == {"not_before": "2026-01-01T00:00:00Z"}
	}
	agreements.period([{"from": "2026-01-01T00:00:00Z", "until": null}]) == {"not_before": "2026-01-01T00:00:00Z"}
}

test_the_last_end if {
	ends := [_between("", "2027-01-01T00:00:00Z", true), _between("", "2028-01-01T00:00:00Z", true)]
	agreements.last_end(ends) == {"valid_until": "2028-01-01T00:00:00Z"}
	agreements.last_end(array.concat(ends, [_between("", null, true)])) == {}
	agreements.last_end([]) == {}
}
