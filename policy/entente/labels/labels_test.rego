package entente.labels_test

import data.entente.labels

_good := {
	"dataclassification": "amber",
	"datacategory": "sensitive",
	"dataregulation": ["GDPR", "HIPAA"],
	"purposes": ["law-enforcement"],
	"releasableto": ["ems", "transport"],
}

test_good_labels if {
	labels.problems(_good) == set()
	labels.problems(object.union(_good, {
		"datacategory": "",
		"dataregulation": [],
		"purposes": [],
		"releasableto": [],
	})) == set()
}

test_each_label_has_to_be_there if {
	every name in object.keys(_good) {
		labels.problems(object.remove(_good, [name])) == {name}
		labels.problems(object.union(_good, {name: null})) == {name}
		labels.problems(object.union(_good, {name: 1})) == {name}
		labels.problems(object.union(_good, {name: {"a": 1}})) == {name}
	}
}

test_each_label_keeps_to_the_vocabulary if {
	every name, value in {
		"dataclassification": "Amber",
		"datacategory": "Sensitive",
		"dataregulation": ["GDPR", "gdpr"],
		"purposes": ["law-enforcement", ""],
		"releasableto": ["EMS"],
	} {
		labels.problems(object.union(_good, {name: value})) == {name}
	}
}

test_a_classification_is_never_empty if {
	labels.problems(object.union(_good, {"dataclassification": ""})) == {"dataclassification"}
}

test_no_labels_at_all if {
	every absent in [null, {}, [], "amber", 3] {
		labels.problems(absent) == object.keys(_good)
	}
}

test_no_vocabulary_permits_nothing_but_empty_labels if {
	labels.problems(_good) == object.keys(_good) - {"releasableto"} with data.data as {}
}

test_whom_a_record_names_is_not_looked_up if {
	labels.problems(object.union(_good, {"releasableto": ["ems", "no-such-agency"]})) == set()
	every odd in ["", "-ems", "ems,transport", " ems", "ems\n", null, 1, ["ems"]] {
		labels.problems(object.union(_good, {"releasableto": ["ems", odd]})) == {"releasableto"}
	}
}

test_refusals if {
	labels.refusals(object.union(_good, {"purposes": null})) == {"label-purposes"}
}
