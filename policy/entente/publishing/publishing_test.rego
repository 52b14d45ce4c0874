package entente.publishing_test

import data.entente.publishing

_facts := {
	"agency": "highway-patrol",
	"owner": "highway-patrol",
	"roles": ["officer"],
	"topic": "crash-reports",
	"type": "gov.niem.crash-driver.v1",
	"labels": {
		"dataclassification": "amber",
		"datacategory": "",
		"dataregulation": [],
		"purposes": [],
		"releasableto": [],
	},
}

test_a_publisher_may_publish if publishing.grant(_facts).effect == "release"

test_each_fact_is_needed if {
	every name in object.keys(_facts) {
		every odd in [null, 1, "", "odd", {}] {
			publishing.grant(object.union(object.remove(_facts, [name]), {name: odd})).effect == "withhold"
		}
	}
}

test_a_type_that_two_owners_register_is_not_registered if {
	doubled := {"a": {"t": {"publishers": ["a"]}}, "b": {"t": {"publishers": ["b"]}, "u": {"publishers": ["b"]}}}
	not publishing.type_registered("t") with data.data.record_types as doubled
	not publishing.is_publisher("a", "t") with data.data.record_types as doubled
	not publishing.is_publisher("b", "t") with data.data.record_types as doubled
	publishing.type_registered("u") with data.data.record_types as doubled
	publishing.is_publisher("b", "u") with data.data.record_types as doubled
	not publishing.is_publisher("a", "u") with data.data.record_types as doubled
}

test_what_is_not_registered if {
	every odd in [null, "", 1, []] {
		publishing.type_registered(odd) == false
		publishing.topic_known(odd) == false
		publishing.accepted(odd, "gov.niem.crash-driver.v1") == false
		publishing.accepted("crash-reports", odd) == false
		publishing.is_publisher("highway-patrol", odd) == false
		publishing.is_publisher(odd, "gov.niem.crash-driver.v1") == false
	}
}
