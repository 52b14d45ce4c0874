package entente.tlp_test

import data.entente.tlp

test_a_clearance_covers_what_is_no_higher if {
	tlp.covers("red", "amber+strict")
	tlp.covers("amber", "amber")
	tlp.covers("clear", "clear")
	not tlp.covers("amber", "amber+strict")
	not tlp.covers("green", "amber")
}

test_no_clearance_covers_nothing if {
	every clearance in [null, "", "none", 4, ["red"]] {
		tlp.covers(clearance, "clear") == false
	}
}

test_an_unknown_classification_is_covered_by_nothing if {
	every classification in [null, "", "secret", "RED", 0] {
		tlp.covers("red", classification) == false
	}
}

test_only_red_is_for_named_recipients_only if {
	tlp.named_recipients_only("red")
	every classification in ["clear", "green", "amber", "amber+strict", null] {
		tlp.named_recipients_only(classification) == false
	}
}

test_obligations if {
	tlp.obligations("red") == {"named-recipients-only", "no-onward-sharing"}
	tlp.obligations("amber+strict") == {"no-onward-sharing"}
	every classification in ["clear", "green", "amber", null] {
		tlp.obligations(classification) == set()
	}
}
