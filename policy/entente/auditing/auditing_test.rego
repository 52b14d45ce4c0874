package entente.auditing_test

import data.entente.auditing

_auditor := {"agency": "exchange", "roles": ["auditor"], "scope": "exchange"}

_administrator := {"agency": "ems", "roles": ["agency-admin"], "scope": "agency"}

test_auditors_read_everything if {
	every scope in ["exchange", "records"] {
		auditing.grant(object.union(_auditor, {"scope": scope})).effect == "release"
	}
}

test_administrators_read_what_is_their_agency_s if {
	auditing.grant(_administrator).effect == "release"
	every scope in ["exchange", "records"] {
		auditing.grant(object.union(_administrator, {"scope": scope})).reasons == {"not-entitled"}
	}
}

test_an_auditor_is_no_administrator if {
	auditing.grant(object.union(_auditor, {"scope": "agency"})).reasons == {"not-entitled"}
}

test_an_auditor_of_another_agency_reads_nothing if {
	roles := {"ems": {"roles": ["auditor"]}, "exchange": {"roles": ["auditor"]}}
	answer := auditing.grant(object.union(_auditor, {"agency": "ems"})) with data.data.agencies as roles
	answer == {"effect": "withhold", "reasons": {"not-entitled"}}
}

test_a_role_that_is_not_registered_entitles_to_nothing if {
	answer := auditing.grant(_administrator) with data.data.agencies as {"ems": {"roles": ["paramedic"]}}
	answer.reasons == {"role-unregistered"}
}

test_nobody_else_reads_anything if {
	every role in ["paramedic", "exchange-admin", "Auditor", ""] {
		every agency in ["ems", "exchange", "nobody"] {
			every scope in ["exchange", "agency", "records"] {
				facts := {"agency": agency, "roles": [role], "scope": scope}
				auditing.grant(facts).effect == "withhold"
			}
		}
	}
}

test_each_fact_is_needed if {
	every whole in [_auditor, _administrator] {
		every name in object.keys(whole) {
			every odd in [null, 1, "", "odd", {}] {
				facts := object.union(object.remove(whole, [name]), {name: odd})
				auditing.grant(facts).effect == "withhold"
			}
		}
	}
}

test_odd_facts_entitle_to_nothing if {
	every odd in [null, 1, "auditor", {"auditor": "auditor"}, [["auditor"]]] {
		auditing.entitled("exchange", "exchange", odd) == false
		auditing.entitled(odd, "exchange", ["auditor"]) == false
		auditing.entitled("exchange", odd, ["auditor"]) == false
	}
}
