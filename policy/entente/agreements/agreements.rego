# METADATA
# title: Agreements
# description: |
#   Bilateral agreements, owner to consumer. One that is not in order applies to nothing: an unknown `highest` or
#   `grants`, a time not of the form YYYY-MM-DDTHH:MM:SSZ, a missing `until` (say null for none) or one not after `from`.
#   No rule reads a clock. When an agreement is in force is answered as `not_before` and `valid_until`, which the
#   broker compares with the record's `recordedtime` and with its own clock.
package entente.agreements

import data.entente.index
import data.entente.lib

# METADATA
# title: Ids of the agreements under which an owner grants a consumer records so classified on a topic for a purpose
# description: "`grants` is `records` or `notice`. Arguments are plain values, so that a batch computes each answer once."
covering(owner, consumer, grants, topic, purpose, classification) := {id |
	some id, agreement in _in_order_for(owner, consumer, topic, purpose)
	agreement.grants == grants
	lib.at_most(classification, agreement.highest)
}

# METADATA
# title: The agreements in order under which an owner grants a consumer anything on a topic for a purpose
naming(owner, consumer, topic, purpose) := [agreement |
	some agreement in _in_order_for(owner, consumer, topic, purpose)
]

# METADATA
# title: An owner's agreements by id
named(owner, ids) := [agreement |
	some id in ids
	agreement := data.data.agreements[owner][id]
]

# METADATA
# title: What several agreements that apply at once oblige to
obligations(agreements) := {obligation |
	some agreement in agreements
	some obligation in agreement.obligations
	is_string(obligation)
}

# METADATA
# title: The period in which several agreements that apply at once all hold
# description: |
#   `not_before` is the latest `from` of those that open no history, so that none opens more of it than each of
#   them does; `valid_until` the earliest `until`. A key is absent where nothing limits.
period(agreements) := object.union(
	_latest("not_before", {agreement.from | some agreement in agreements; not _opens_history(agreement)}),
	_earliest("valid_until", {agreement.until | some agreement in agreements; is_string(agreement.until)}),
)

# METADATA
# title: Until when at least one of several agreements holds
# description: Empty where one of them has no end, or where there is none at all.
last_end(agreements) := {} if {
	some agreement in agreements
	agreement.until == null
} else := _latest("valid_until", {agreement.until | some agreement in agreements})

# A pair may have thousands on other topics: whether one is in order takes longest, and is looked at last.
_in_order_for(owner, consumer, topic, purpose) := {id: agreement |
	some id in index.agreement_ids(owner, consumer)
	agreement := data.data.agreements[owner][id]
	agreement.consumer == consumer
	lib.holds(agreement.topics, topic)
	lib.holds(agreement.purposes, purpose)
	_in_order(agreement)
}

default _in_order(_) := false

_in_order(agreement) if {
	agreement.grants in {"records", "notice"}
	lib.ranks[agreement.highest] >= 0
	_is_time(agreement.from)
	_ends_after(agreement.until, agreement.from)
	is_object(agreement.treatments)
	is_array(agreement.obligations)
}

_ends_after(null, _)

_ends_after(until, from) if {
	_is_time(until)
	until > from
}

_is_time(value) if {
	regex.match(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$`, value)
	time.parse_rfc3339_ns(value) # undefined for a date that does not exist
}

default _opens_history(_) := false

_opens_history(agreement) if agreement.history == true

# `max` and `min` of an empty set are undefined: then nothing limits.
default _latest(_, _) := {}

_latest(name, times) := {name: max(times)}

default _earliest(_, _) := {}

_earliest(name, times) := {name: min(times)}
