# METADATA
# title: Index
# description: |
#   Where in the data something is, without searching it, however many agencies and agreements there are. The broker derives
#   `data.index` from the data files when it packs a revision for OPA, and no revision can hold one of its own. A bundle
#   that somebody else packed has none, nor has one for Rego tests, which replace data by `with`; there the data itself is
#   searched, with the same answers.
#
#   The index says where to look, and grants nothing: whoever asks reads the data at that place.
package entente.index

# METADATA
# title: Ids of all agreements of an owner with a consumer, in order or not
agreement_ids(owner, consumer) := [id | some id in data.index.agreements[owner][consumer]] if {
	_indexed
} else := [id |
	some id, agreement in data.data.agreements[owner]
	agreement.consumer == consumer
]

# METADATA
# title: The owners that have an agreement with a consumer that names a topic
granting(consumer, topic) := {owner | some owner in data.index.granting[consumer][topic]} if {
	_indexed
} else := {owner |
	some owner
	agreement := data.data.agreements[owner][_]
	agreement.consumer == consumer
	topic in agreement.topics
}

# METADATA
# title: The owners that register a record type
# description: More than one is a fault, and registers nothing.
type_owners(type) := {owner | some owner in data.index.record_types[type]} if {
	_indexed
} else := {owner |
	some owner
	is_object(data.data.record_types[owner][type])
}

# METADATA
# title: Whether an owner's registration of a record type names an agency as a publisher
default has_publisher(_, _, _) := false

has_publisher(owner, type, agency) if {
	_indexed
	data.index.publishers[owner][type][agency] == true
}

has_publisher(owner, type, agency) if {
	not _indexed
	agency in data.data.record_types[owner][type].publishers
}

default _indexed := false

_indexed if data.index.form == 1
