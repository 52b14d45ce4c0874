package entente.modules_test

import data.entente.modules

_nothing := {"deny": set(), "redact": set(), "oblige": set()}

_item := {"action": "deliver", "subject": {"agency": "ems"}, "topic": "t"}

test_an_agency_without_a_module_says_nothing if modules.ask("nobody", "owner", _item) == _nothing

test_an_agency_that_is_no_name_says_nothing if {
	every agency in [null, 1, [], {}] {
		modules.ask(agency, "owner", _item) == _nothing
	}
}

test_a_module_answers if {
	said := {
		"deny": {"no"},
		"redact": {{"marking": "pii", "treatment": {"kind": "mask"}}},
		"oblige": {"delete"},
	}
	modules.ask("x", "owner", _item) == said with data.agencies as {"x": said}
}

test_a_module_may_define_less if {
	modules.ask("x", "owner", _item) == object.union(_nothing, {"oblige": {"a"}}) with data.agencies as {"x": {"oblige": {"a"}}}
}

test_an_answer_of_another_form_denies if {
	every odd in [
		{"deny": true}, {"deny": "no"}, {"deny": ["no"]}, {"deny": {1}}, {"deny": {"a": "b"}}, {"deny": null},
		{"oblige": ["x"]}, {"oblige": {null}}, {"redact": {"pii"}}, {"redact": {"pii": {"kind": "mask"}}},
		{"redact": {{"marking": "no-such-marking", "treatment": {"kind": "remove"}}}},
		{"redact": {{"marking": "pii"}}}, {"redact": {{"marking": 1, "treatment": {}}}},
		{"redact": {{"marking": "pii", "treatment": "mask"}}},
		{"redact": {{"marking": "pii", "treatment": {}, "more": 1}}},
	] {
		answer := modules.ask("x", "owner", _item) with data.agencies as {"x": odd}
		count(answer.deny) == 1
	}
}
