# METADATA
# title: Subscribing
# description: |
#   Whether a principal may open a stream on a topic for a purpose: an agency that can publish there reads its own
#   records, any other needs an agreement, be it for notices only, with one that can publish there.
package entente.subscribing

import data.entente.agreements
import data.entente.index
import data.entente.publishing
import data.entente.purpose
import data.entente.subjects

# METADATA
# title: The exchange's answer to a subscribe item's facts
grant(facts) := _answer(facts, _refusals(facts))

_answer(facts, refusals) := {"effect": "withhold", "reasons": refusals} if {
	count(refusals) > 0
} else := _permitted("owner", {}) if {
	_publishes_on(facts.agency, facts.topic)
} else := _permitted("agreement", {}) if {
	_has_one_without_end(facts)
} else := _permitted("agreement", agreements.last_end(naming)) if {
	naming := [agreement | some owner in _granting(facts); some agreement in _naming(owner, facts)]
	count(naming) > 0
} else := {"effect": "withhold", "reasons": {"no-agreement"}}

_permitted(reason, limits) := object.union(
	{"effect": "release", "treatments": {}, "obligations": set(), "reasons": {reason}},
	limits,
)

_refusals(facts) := {reason | some reason, met in demands; not met} if demands := _demands(facts)

# Each is true or false, whatever the facts.
_demands(facts) := {
	"purpose-unregistered": purpose.registered(facts.agency, facts.purpose),
	"role-unregistered": subjects.roles_registered(facts.agency, facts.roles),
	"topic-unknown": publishing.topic_known(facts.topic),
}

# Looked for first: the first that is found ends the search, and some agencies have thousands.
default _has_one_without_end(_) := false

_has_one_without_end(facts) if {
	some owner in _granting(facts)
	some agreement in _naming(owner, facts)
	agreement.until == null
}

_granting(facts) := {owner |
	some owner in index.granting(facts.agency, facts.topic)
	_publishes_on(owner, facts.topic)
}

_naming(owner, facts) := agreements.naming(owner, facts.agency, facts.topic, facts.purpose)

# Whether an agency's records can be on the topic: its steward's can, and those of whoever may publish what it accepts.
default _publishes_on(_, _) := false

_publishes_on(agency, topic) if data.data.topics[topic].steward == agency

_publishes_on(agency, topic) if {
	some type in data.data.topics[topic].accepts
	publishing.is_publisher(agency, type)
}
