# METADATA
# title: Labels
# description: |
#   A record's five labels against the vocabulary. All five are always there; an empty list restricts nothing.
#   `releasableto` holds names of agencies, which are checked for their form only.
package entente.labels

import data.entente.lib

# METADATA
# title: Names of the labels that are missing, of a wrong type or outside the vocabulary
# description: Empty for good labels. Comparison is exact, so a label of the wrong case is refused.
problems(labels) := {name |
	some name in _names
	not _good(name, object.get(labels, name, null))
} if {
	is_object(labels)
} else := _names

# METADATA
# title: Those problems as reasons to refuse
refusals(labels) := {concat("-", ["label", name]) | some name in problems(labels)}

_names := {"dataclassification", "datacategory", "dataregulation", "purposes", "releasableto"}

# By name and value instead of all labels, so that a batch judges each value once.
default _good(_, _) := false

_good("dataclassification", value) if lib.ranks[value] >= 0

_good("datacategory", "")

_good("datacategory", value) if lib.holds(data.data.vocabulary.categories, value)

_good("dataregulation", values) if _all_in(values, data.data.vocabulary.regulations)

_good("purposes", values) if _all_in(values, data.data.vocabulary.purposes)

# Not looked up: an answer that tells registered agencies from others would list them for anyone who may publish.
# A name that stands for nobody releases the record to nobody.
_good("releasableto", values) if {
	is_array(values)
	every value in values {
		regex.match(`^[a-z0-9][a-z0-9-]{0,63}$`, value)
	}
}

_all_in(values, words) if {
	is_array(values)
	every value in values {
		value in words
	}
}
