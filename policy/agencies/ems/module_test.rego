package agencies.ems.module_test

import data.agencies.ems

_consumer := {"agency": "ems", "side": "consumer", "item": {
	"action": "deliver",
	"subject": {"agency": "ems", "roles": ["volunteer"]},
	"record": {"agency": "highway-patrol", "labels": {"dataregulation": ["CJIS", "GDPR"]}},
}}

test_records_under_cjis_are_denied if count(ems.deny) == 1 with input as _consumer

test_other_records_are_not if {
	count(ems.deny) == 0 with input as object.union(_consumer, {"item": {"record": {"labels": {"dataregulation": ["GDPR"]}}}})
}

test_nothing_is_denied_as_owner if count(ems.deny) == 0 with input as object.union(_consumer, {"side": "owner"})

test_volunteers_see_no_identifiers if {
	ems.redact == {{"marking": "identifier", "treatment": {"kind": "mask"}}} with input as _consumer
	paramedic := object.union(_consumer, {"item": {"subject": {"roles": ["paramedic"]}}})
	ems.redact == set() with input as paramedic
}

test_an_item_that_says_nothing if {
	ems.deny == set() with input as {"side": "consumer"}
	ems.redact == set() with input as {"side": "consumer"}
}
