# METADATA
# title: Publishing
# description: Whether an agency may publish a record so typed and so labelled on a topic.
package entente.publishing

import data.entente.index
import data.entente.labels
import data.entente.lib
import data.entente.subjects

# METADATA
# title: The exchange's answer to a publish item's facts
grant(facts) := _answer(_refusals(facts))

# METADATA
# title: Whether a record type is registered
# description: By exactly one owner. Two owners of one type would leave open whose markings count.
default type_registered(_) := false

type_registered(type) if count(index.type_owners(type)) == 1

# METADATA
# title: Whether an agency may publish a record type
# description: Nobody may, if the type is not registered.
default is_publisher(_, _) := false

is_publisher(agency, type) if {
	type_registered(type)
	some owner in index.type_owners(type)
	index.has_publisher(owner, type, agency)
}

# METADATA
# title: Whether a topic is registered
default topic_known(_) := false

topic_known(topic) if is_object(data.data.topics[topic])

# METADATA
# title: Whether a topic accepts a record type
default accepted(_, _) := false

accepted(topic, type) if lib.holds(data.data.topics[topic].accepts, type)

_answer(refusals) := {"effect": "withhold", "reasons": refusals} if {
	count(refusals) > 0
} else := {"effect": "release", "treatments": {}, "obligations": set(), "reasons": {"publisher"}}

_refusals(facts) := {reason | some reason, met in demands; not met} | labels.refusals(facts.labels) if {
	demands := _demands(facts)
}

# Each is true or false, whatever the facts.
_demands(facts) := {
	"agency-unregistered": subjects.registered(facts.agency),
	"not-own-record": facts.agency == facts.owner,
	"not-a-publisher": is_publisher(facts.agency, facts.type),
	"role-unregistered": subjects.roles_registered(facts.agency, facts.roles),
	"type-not-accepted": accepted(facts.topic, facts.type),
}
