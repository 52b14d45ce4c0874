package entente.lib_test

import data.entente.lib

_words := {"classifications": ["clear", "green", "amber", "amber+strict", "red"]}

test_ranks_follow_the_vocabulary if {
	lib.ranks == {"clear": 0, "green": 1, "amber": 2, "amber+strict": 3, "red": 4} with data.data.vocabulary as _words
}

test_ranks_are_empty_for_a_vocabulary_that_repeats_itself if {
	lib.ranks == {} with data.data.vocabulary as {"classifications": ["clear", "red", "clear"]}
}

test_ranks_are_empty_without_a_vocabulary if {
	lib.ranks == {} with data.data.vocabulary as {}
}

test_at_most_compares_by_rank_and_not_by_text if {
	lib.at_most("green", "amber") with data.data.vocabulary as _words
	lib.at_most("amber", "amber") with data.data.vocabulary as _words
	lib.at_most("amber", "amber+strict") with data.data.vocabulary as _words
	not lib.at_most("red", "amber+strict") with data.data.vocabulary as _words
	not lib.at_most("green", "clear") with data.data.vocabulary as _words
}

test_at_most_is_false_for_what_is_unknown if {
	every value in ["", "RED", "secret", null, 0, [], {}, true] {
		lib.at_most(value, "red") == false with data.data.vocabulary as _words
		lib.at_most("clear", value) == false with data.data.vocabulary as _words
	}
}

test_holds if {
	lib.holds(["a", "b"], "b")
	lib.holds({"a"}, "a")
	not lib.holds(["a"], "A")
}

test_holds_is_false_for_other_types if {
	every values in [null, "a", {"a": "a"}, 1, true, []] {
		lib.holds(values, "a") == false
	}
}

test_questions_about_an_item if {
	item := {
		"subject": {"roles": ["officer"], "purpose": "p"},
		"record": {"labels": {"dataclassification": "green", "dataregulation": ["GDPR"], "datacategory": "sensitive"}},
	}
	lib.has_role(item, "officer")
	not lib.has_role(item, "Officer")
	lib.for_purpose(item, "p")
	not lib.for_purpose(item, "q")
	lib.under_regulation(item, "GDPR")
	not lib.under_regulation(item, "gdpr")
	lib.in_category(item, "sensitive")
	not lib.in_category(item, "standard")
	lib.classified_at_most(item, "amber") with data.data.vocabulary as _words
	not lib.classified_at_most(item, "clear") with data.data.vocabulary as _words
}

test_questions_about_an_item_that_says_nothing_are_false if {
	every item in [{}, null, {"subject": null, "record": 1}, {"subject": {"roles": "officer"}, "record": {"labels": []}}] {
		lib.has_role(item, "officer") == false
		lib.for_purpose(item, "p") == false
		lib.under_regulation(item, "GDPR") == false
		lib.in_category(item, "sensitive") == false
		lib.classified_at_most(item, "red") == false
	}
}
