package entente.facts_test

import data.entente.facts

test_what_an_item_does_not_say_is_null if {
	every item in [{}, {"subject": null}, {"subject": "x", "record": 1}, {"record": {"labels": "amber"}}] {
		every name, value in facts.of(item) {
			_null_or_labels(name, value)
		}
		every value in facts.of_administering(item) {
			value == null
		}
	}
}

test_an_item_that_is_no_object_has_no_facts if {
	every item in [null, 1, "x", true] {
		not facts.of(item)
		not facts.of_administering(item)
	}
}

test_the_id_is_no_fact if {
	facts.of({"id": "1", "subject": {"id": "2"}}) == facts.of({})
}

_null_or_labels("labels", _)

_null_or_labels(name, null) if name != "labels"
