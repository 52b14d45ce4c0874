package entente.releasability_test

import data.entente.releasability

test_an_empty_list_restricts_nothing if {
	every classification in ["clear", "green", "amber", "amber+strict"] {
		releasability.permits(classification, [], "ems")
	}
}

test_red_goes_to_named_recipients_only if {
	not releasability.permits("red", [], "ems")
	not releasability.permits("red", ["transport"], "ems")
	releasability.permits("red", ["ems"], "ems")
}

test_a_list_names_the_only_recipients if {
	releasability.permits("clear", ["ems", "transport"], "ems")
	not releasability.permits("clear", ["transport"], "ems")
	not releasability.permits("clear", ["ems-east"], "ems")
}

test_a_missing_list_permits_nobody if {
	every label in [null, "ems", {"a": "ems"}, 1] {
		releasability.permits("clear", label, "ems") == false
	}
}
