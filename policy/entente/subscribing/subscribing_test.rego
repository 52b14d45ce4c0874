package entente.subscribing_test

import data.entente.subscribing

_facts := {"agency": "ems", "roles": ["paramedic"], "purpose": "emergency-response", "topic": "crash-reports"}

_agreement := {
	"consumer": "ems",
	"topics": ["crash-reports"],
	"purposes": ["emergency-response"],
	"highest": "clear",
	"grants": "notice",
	"treatments": {},
	"obligations": [],
	"from": "2026-01-01T00:00:00Z",
	"until": "2027-01-01T00:00:00Z",
	"history": false,
}

test_an_agreement_permits_until_it_ends if {
	answer := subscribing.grant(_facts) with data.data.agreements as {"highway-patrol": {"a": _agreement}}
	answer.effect == "release"
	answer.valid_until == "2027-01-01T00:00:00Z"
	not "not_before" in object.keys(answer)
}

test_the_latest_of_several_ends_counts if {
	longer := object.union(_agreement, {"until": "2028-01-01T00:00:00Z"})
	answer := subscribing.grant(_facts) with data.data.agreements as {"highway-patrol": [_agreement, longer]}
	answer.valid_until == "2028-01-01T00:00:00Z"
}

test_one_without_an_end_permits_for_good if {
	endless := object.union(_agreement, {"until": null})
	answer := subscribing.grant(_facts) with data.data.agreements as {"highway-patrol": [_agreement, endless]}
	answer.effect == "release"
	not "valid_until" in object.keys(answer)
	elsewhere := object.union(endless, {"purposes": ["law-enforcement"]})
	other := subscribing.grant(_facts) with data.data.agreements as {"highway-patrol": [_agreement, elsewhere]}
	other.valid_until == "2027-01-01T00:00:00Z"
}

test_an_agreement_of_an_agency_that_publishes_nothing_there_permits_nothing if {
	answer := subscribing.grant(_facts) with data.data.agreements as {"transport": {"a": _agreement}}
	answer.effect == "withhold"
}

test_publishers_read_their_own_topic if {
	facts := {"agency": "transport", "roles": [], "purpose": "road-safety-statistics", "topic": "crash-reports"}
	subscribing.grant(facts).effect == "withhold" with data.data.agreements as {}
	answer := subscribing.grant(facts) with data.data.agreements as {}
		with data.data.record_types as {"x": {"gov.niem.crash-driver.v1": {"publishers": ["transport"]}}}
	answer.effect == "release"
	not "valid_until" in object.keys(answer)
}

test_each_fact_is_needed if {
	every name in object.keys(_facts) {
		every odd in [null, 1, "", "odd", {}] {
			subscribing.grant(object.union(object.remove(_facts, [name]), {name: odd})).effect == "withhold"
		}
	}
}
