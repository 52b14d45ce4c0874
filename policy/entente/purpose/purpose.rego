# METADATA
# title: Purposes
# description: The purpose that a subject states, against its agency's registration and the record's `purposes` label.
package entente.purpose

import data.entente.lib

# METADATA
# title: Whether an agency may act for a purpose
# description: False for a missing purpose and for one outside the vocabulary.
default registered(_, _) := false

registered(agency, purpose) if {
	lib.holds(data.data.vocabulary.purposes, purpose)
	lib.holds(data.data.agencies[agency].purposes, purpose)
}

# METADATA
# title: Whether the record's `purposes` label permits a purpose
# description: An empty list permits each; a missing one permits none.
default permitted(_, _) := false

permitted([], _)

permitted(purposes, purpose) if lib.holds(purposes, purpose)
