package entente.purpose_test

import data.entente.purpose

test_registered if {
	purpose.registered("ems", "emergency-response")
	not purpose.registered("ems", "law-enforcement")
	not purpose.registered("nobody", "emergency-response")
}

test_a_missing_purpose_is_not_registered if {
	every stated in [null, "", 1, ["emergency-response"]] {
		purpose.registered("ems", stated) == false
	}
}

test_a_purpose_outside_the_vocabulary_is_not_registered if {
	not purpose.registered("ems", "emergency-response") with data.data.vocabulary.purposes as ["law-enforcement"]
}

test_the_label_permits if {
	purpose.permitted(["a", "b"], "b")
	purpose.permitted([], "b")
	not purpose.permitted(["a"], "b")
}

test_a_missing_label_permits_nothing if {
	every label in [null, "b", {"b": "b"}, 1] {
		purpose.permitted(label, "b") == false
	}
}
