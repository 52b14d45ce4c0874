# METADATA
# title: Publishing
# description: Whether an agency may publish a record so typed and so labelled on a topic.
package entente.publishing

import data.entente.labels
import data.entente.lib
import data.entente.subjects

# METADATA
# title: The exchange's answer to a publish item's facts
grant(facts) := {"effect": "release", "treatments": {}, "obligations": set(), "reasons": {"publisher"}} if {
	count(_refusals(facts)) == 0
} else := {"effect": "withhold", "reasons": _refusals(facts)}

# METADATA
# title: Whether a record type is registered
# description: By exactly one owner. Two owners of one type would leave open whose markings count.
default type_registered(_) := false

type_registered(type) if count(_registrations(type)) == 1

# METADATA
# title: The agencies that may publish a record type
# description: None, if the type is not registered.
publishers(type) := {agency |
	type_registered(type)
	some registration in _registrations(type)
	some agency in registration.publishers
}

# METADATA
# title: Whether a topic is registered
default topic_known(_) := false

topic_known(topic) if is_object(data.data.topics[topic])

# METADATA
# title: Whether a topic accepts a record type
default accepted(_, _) := false

accepted(topic, type) if lib.holds(data.data.topics[topic].accepts, type)

_registrations(type) := [registration | registration := data.data.record_types[_][type]]

_refusals(facts) := {reason |
	some reason in {"agency-unregistered", "not-own-record", "type-not-accepted", "not-a-publisher"}
	_refused(facts, reason)
} | {sprintf("label-%s", [name]) | some name in labels.problems(facts.labels)}

# `facts` is complete, so that none of these negations meets an undefined reference.
_refused(facts, "agency-unregistered") if not subjects.registered(facts.agency)

_refused(facts, "not-own-record") if facts.agency != facts.owner

_refused(facts, "type-not-accepted") if not accepted(facts.topic, facts.type)

_refused(facts, "not-a-publisher") if not facts.agency in publishers(facts.type)
