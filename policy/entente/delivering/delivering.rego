# METADATA
# title: Delivering
# description: |
#   What becomes of one record for one subject. Its owner receives it whole, for any purpose and in any role that is
#   registered. Everybody else needs each of: a subject within its agency's registration, labels within the
#   vocabulary, a clearance that covers the classification, a `releasableto` that permits it, and an agreement with the
#   owner that covers topic, purpose and classification. The record's `purposes` label has to permit the purpose too,
#   except for a notice, which tells that a record exists and whom to ask, and nothing else.
#
#   If several agreements apply, records go before a notice, and the strictest of all of them holds: the strictest
#   treatment of each marking, every obligation, the latest `not_before`, the earliest `valid_until`. So a second
#   agreement never opens more than the first; to renew or widen one, change it.
package entente.delivering

import data.entente.agreements
import data.entente.labels
import data.entente.publishing
import data.entente.purpose
import data.entente.releasability
import data.entente.subjects
import data.entente.tlp
import data.entente.treatments

# METADATA
# title: The exchange's answer to a deliver item's facts
grant(facts) := _owned(facts, _basic_refusals(facts)) if {
	owns(facts)
} else := _shared(facts, _refusals(facts))

# METADATA
# title: Whether the subject's agency owns the record
default owns(_) := false

owns(facts) if {
	facts.agency == facts.owner
	subjects.registered(facts.owner)
}

# These two are undefined, and so the item is withheld, if the refusals are.
_owned(facts, refusals) := {
	"effect": "release",
	"treatments": treatments.uniform(facts.markings, {"kind": "keep"}),
	"obligations": set(),
	"reasons": {"owner"},
} if {
	count(refusals) == 0
} else := {"effect": "withhold", "reasons": refusals}

_shared(facts, refusals) := {"effect": "withhold", "reasons": refusals} if {
	count(refusals) > 0
} else := _granted("release", facts, ids, treatments.merged(facts.markings, tables)) if {
	purpose.permitted(facts.purposes, facts.purpose)
	ids := _covering(facts, "records")
	count(ids) > 0
	tables := [agreement.treatments | some agreement in agreements.named(facts.owner, ids)]
} else := _granted("notice", facts, ids, {}) if {
	ids := _covering(facts, "notice")
	count(ids) > 0
} else := {"effect": "withhold", "reasons": {"no-agreement"}}

_granted(effect, facts, ids, treated) := object.union(
	{
		"effect": effect,
		"treatments": treated,
		"obligations": (agreements.obligations(named) | tlp.obligations(facts.classification)),
		"reasons": {sprintf("agreement %s/%v", [facts.owner, id]) | some id in ids},
	},
	agreements.period(named),
) if {
	named := agreements.named(facts.owner, ids)
}

_covering(facts, grants) := agreements.covering(
	facts.owner, facts.agency, grants,
	facts.topic, facts.purpose, facts.classification,
)

_refusals(facts) := ({reason | some reason, met in demands; not met} | labels.refusals(facts.labels)) | basic if {
	demands := _demands(facts)
	basic := _basic_refusals(facts)
}

# What the owner's own people have to meet too.
_basic_refusals(facts) := {reason | some reason, met in demands; not met} if {
	demands := {
		"markings-malformed": _are_texts(facts.markings),
		"purpose-unregistered": purpose.registered(facts.agency, facts.purpose),
		"role-unregistered": subjects.roles_registered(facts.agency, facts.roles),
	}
}

# What sharing demands, besides good labels and an agreement. Each is true or false, whatever the facts.
_demands(facts) := {
	"clearance-above-registration": subjects.within_ceiling(facts.agency, facts.clearance),
	"clearance-too-low": tlp.covers(facts.clearance, facts.classification),
	"not-releasable": releasability.permits(facts.classification, facts.releasableto, facts.agency),
	"topic-unknown": publishing.topic_known(facts.topic),
	"type-unregistered": publishing.type_registered(facts.type),
}

default _are_texts(_) := false

_are_texts(values) if {
	is_array(values)
	every value in values {
		is_string(value)
	}
}
