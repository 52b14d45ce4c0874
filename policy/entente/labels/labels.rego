# METADATA
# title: Labels
# description: A record's five labels against the vocabulary. All five are always there; an empty list restricts nothing.
package entente.labels

import data.entente.lib

# METADATA
# title: Names of the labels that are missing, of a wrong type or outside the vocabulary
# description: Empty for good labels. Comparison is exact, so a label of the wrong case is refused.
problems(labels) := {name |
	some name in {"dataclassification", "datacategory", "dataregulation", "purposes", "releasableto"}
	not _good(labels, name)
}

# METADATA
# title: Those problems as reasons to refuse
refusals(labels) := {concat("-", ["label", name]) | some name in problems(labels)}

default _good(_, _) := false

_good(labels, "dataclassification") if lib.ranks[labels.dataclassification] >= 0

_good(labels, "datacategory") if labels.datacategory == ""

_good(labels, "datacategory") if lib.holds(data.data.vocabulary.categories, labels.datacategory)

_good(labels, "dataregulation") if _all_in(labels.dataregulation, data.data.vocabulary.regulations)

_good(labels, "purposes") if _all_in(labels.purposes, data.data.vocabulary.purposes)

_good(labels, "releasableto") if _all_in(labels.releasableto, _agencies)

_agencies := object.keys(data.data.agencies)

_all_in(values, words) if {
	is_array(values)
	every value in values {
		value in words
	}
}
