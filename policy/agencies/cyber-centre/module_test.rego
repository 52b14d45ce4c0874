package agencies["cyber-centre"].module_test

import data.agencies["cyber-centre"] as centre

_owner := {"agency": "cyber-centre", "side": "owner", "item": {
	"action": "deliver",
	"subject": {"agency": "partner-cert", "purpose": "cyber-defence"},
	"record": {"agency": "cyber-centre", "labels": {"datacategory": "active-investigation"}},
}}

test_active_investigations_are_for_law_enforcement_only if {
	count(centre.deny) == 1 with input as _owner
	enforcing := object.union(_owner, {"item": {"subject": {"purpose": "law-enforcement"}}})
	count(centre.deny) == 0 with input as enforcing
}

test_a_missing_purpose_is_not_law_enforcement if {
	count(centre.deny) == 1 with input as object.union(_owner, {"item": {"subject": {"purpose": null}}})
}

test_other_categories_are_not_denied if {
	every category in ["", "sensitive", null] {
		count(centre.deny) == 0 with input as object.union(_owner, {"item": {"record": {"labels": {"datacategory": category}}}})
	}
}

test_its_own_people_are_not_concerned if {
	count(centre.deny) == 0 with input as object.union(_owner, {"side": "consumer"})
}

test_special_categories_are_deleted if {
	special := object.union(_owner, {"item": {"record": {"labels": {"datacategory": "special-category"}}}})
	centre.oblige == {"delete-when-purpose-served"} with input as special
	centre.oblige == set() with input as _owner
}
