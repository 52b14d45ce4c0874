package entente.delivering_test

import data.entente.delivering

_facts := {
	"agency": "ems",
	"roles": ["paramedic"],
	"clearance": "red",
	"purpose": "emergency-response",
	"topic": "crash-reports",
	"type": "gov.niem.crash-driver.v1",
	"owner": "highway-patrol",
	"labels": {
		"dataclassification": "amber",
		"datacategory": "",
		"dataregulation": [],
		"purposes": [],
		"releasableto": [],
	},
	"classification": "amber",
	"purposes": [],
	"releasableto": [],
	"markings": ["medical", "pii", "unreviewed"],
}

_agreement := {
	"consumer": "ems",
	"topics": ["crash-reports"],
	"purposes": ["emergency-response"],
	"highest": "amber",
	"grants": "records",
	"treatments": {"medical": {"kind": "keep"}, "pii": {"kind": "keep"}},
	"obligations": ["a"],
	"from": "2026-01-01T00:00:00Z",
	"until": null,
	"history": true,
}

_notice := object.union(object.remove(_agreement, ["treatments"]), {"grants": "notice", "treatments": {}})

_under(owned, facts) := answer if {
	answer := delivering.grant(facts) with data.data.agreements as {"highway-patrol": owned}
}

test_one_agreement if {
	answer := _under({"x": _agreement}, _facts)
	answer.effect == "release"
	answer.treatments == {"medical": {"kind": "keep"}, "pii": {"kind": "keep"}, "unreviewed": {"kind": "remove"}}
	answer.obligations == {"a"}
	answer.reasons == {"agreement highway-patrol/x"}
	object.keys(answer) == {"effect", "treatments", "obligations", "reasons"}
}

test_no_agreement if {
	_under({}, _facts).effect == "withhold"
	delivering.grant(_facts).effect == "withhold" with data.data.agreements as {}
}

test_the_strictest_of_several_agreements if {
	other := {
		"treatments": {"medical": {"kind": "mask"}, "unreviewed": {"kind": "keep"}},
		"obligations": ["b"],
		"from": "2026-03-01T00:00:00Z",
		"until": "2027-01-01T00:00:00Z",
		"history": false,
	}
	answer := _under([_agreement, object.union(object.remove(_agreement, ["treatments"]), other)], _facts)
	answer.treatments == {"medical": {"kind": "mask"}, "pii": {"kind": "remove"}, "unreviewed": {"kind": "remove"}}
	answer.obligations == {"a", "b"}
	answer.not_before == "2026-03-01T00:00:00Z"
	answer.valid_until == "2027-01-01T00:00:00Z"
}

test_one_that_does_not_cover_the_record_changes_nothing if {
	lower := object.union(_agreement, {"highest": "green", "obligations": ["b"]})
	_under({"x": _agreement, "y": lower}, _facts).obligations == {"a"}
}

test_records_go_before_a_notice if {
	answer := _under({"x": _agreement, "y": _notice}, _facts)
	answer.effect == "release"
	answer.reasons == {"agreement highway-patrol/x"}
}

test_a_notice_ignores_the_purposes_label_and_nothing_else if {
	elsewhere := object.union(_facts, {
		"purposes": ["law-enforcement"],
		"labels": object.union(_facts.labels, {"purposes": ["law-enforcement"]}),
	})
	_under({"x": _agreement}, elsewhere).effect == "withhold"
	answer := _under({"x": _agreement, "y": _notice}, elsewhere)
	answer.effect == "notice"
	answer.treatments == {}
	_under({"y": _notice}, object.union(_facts, {"clearance": "green"})).effect == "withhold"
	_under({"y": _notice}, object.union(_facts, {"classification": "red"})).effect == "withhold"
	_under({"y": _notice}, object.union(_facts, {"releasableto": ["transport"]})).effect == "withhold"
	_under({"y": _notice}, object.union(_facts, {"purpose": "law-enforcement"})).effect == "withhold"
}

test_each_fact_is_needed if {
	every name in object.keys(_facts) - {"purposes"} {
		every odd in [null, 1, "", "odd", {}] {
			changed := object.union(object.remove(_facts, [name]), {name: odd})
			_under({"x": _agreement, "y": _notice}, changed).effect == "withhold"
		}
	}
}

test_without_the_purposes_label_no_record_is_released if {
	every odd in [null, 1, "", "odd", {}] {
		changed := object.union(object.remove(_facts, ["purposes"]), {"purposes": odd})
		_under({"x": _agreement}, changed).effect == "withhold"
	}
}

test_an_owner_needs_no_agreement if {
	facts := object.union(_facts, {"agency": "highway-patrol", "roles": ["officer"], "purpose": "law-enforcement"})
	answer := _under({}, facts)
	answer.effect == "release"
	answer.treatments == {"medical": {"kind": "keep"}, "pii": {"kind": "keep"}, "unreviewed": {"kind": "keep"}}
}

test_an_owner_has_to_be_registered if {
	not delivering.owns({"agency": null, "owner": null})
	not delivering.owns({"agency": "nobody", "owner": "nobody"})
	delivering.owns({"agency": "ems", "owner": "ems"})
}
