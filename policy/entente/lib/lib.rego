# METADATA
# title: Public library
# description: |
#   Functions that every package and every agency's module may use. Each has a default, so that a missing or
#   odd argument gives false and never "undefined"; a caller may therefore negate them safely. Nothing here reads
#   `input` or reveals agreements. The `item` arguments are an agency module's `input.item`.
package entente.lib

# METADATA
# title: Rank of each classification
# description: Empty if the vocabulary names a classification twice, since then its order means nothing.
ranks := {name: rank | some rank, name in data.data.vocabulary.classifications} if {
	names := data.data.vocabulary.classifications
	count(names) == count({name | some name in names})
} else := {}

# METADATA
# title: Whether one classification is no higher than another
# description: False if either is not in the vocabulary.
default at_most(_, _) := false

at_most(lower, higher) if ranks[lower] <= ranks[higher]

# METADATA
# title: Whether a list or set holds a value
# description: False if `values` is neither.
default holds(_, _) := false

holds(values, value) if {
	type_name(values) in {"array", "set"}
	value in values
}

# METADATA
# title: Whether an item's subject acts in a role
default has_role(_, _) := false

has_role(item, role) if holds(item.subject.roles, role)

# METADATA
# title: Whether an item's subject states a purpose
default for_purpose(_, _) := false

for_purpose(item, purpose) if item.subject.purpose == purpose

# METADATA
# title: Whether an item's record falls under a regulation
default under_regulation(_, _) := false

under_regulation(item, regulation) if holds(item.record.labels.dataregulation, regulation)

# METADATA
# title: Whether an item's record is of a category
default in_category(_, _) := false

in_category(item, category) if item.record.labels.datacategory == category

# METADATA
# title: Whether an item's record is classified at most so
default classified_at_most(_, _) := false

classified_at_most(item, classification) if at_most(item.record.labels.dataclassification, classification)
