# METADATA
# title: Delivering
# description: |
#   What becomes of one record for one subject. An owner receives its own whole. Everybody else needs each of: a subject
#   within its agency's registration, labels within the vocabulary, a clearance that covers the classification,
#   a `releasableto` that permits it, and an agreement with the owner that covers topic, purpose and classification.
#   The record's `purposes` label has to permit the purpose too, except for a notice, which tells that a record exists
#   and whom to ask, and nothing else.
#
#   If several agreements apply, records go before a notice, and the strictest of all of them holds: the strictest
#   treatment of each marking, every obligation, the latest `not_before`, the earliest `valid_until`. So a
#   second agreement never opens more than the first; to renew or widen one, change it.
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
grant(facts) := {
	"effect": "release",
	"treatments": treatments.uniform(facts.markings, {"kind": "keep"}),
	"obligations": set(),
	"reasons": {"owner"},
} if {
	owns(facts)
} else := {"effect": "withhold", "reasons": refusals} if {
	refusals := _refusals(facts)
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

# METADATA
# title: Whether the subject's agency owns the record
default owns(_) := false

owns(facts) if {
	facts.agency == facts.owner
	subjects.registered(facts.owner)
}

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

_refusals(facts) := {reason |
	some reason in {
		"clearance-above-registration",
		"clearance-too-low",
		"not-releasable",
		"purpose-unregistered",
		"role-unregistered",
		"topic-unknown",
		"type-unregistered",
	}
	_refused(facts, reason)
} | {sprintf("label-%s", [name]) | some name in labels.problems(facts.labels)}

# `facts` is complete, so that none of these negations meets an undefined reference.
_refused(facts, "clearance-above-registration") if not subjects.within_ceiling(facts.agency, facts.clearance)

_refused(facts, "clearance-too-low") if not tlp.covers(facts.clearance, facts.classification)

_refused(facts, "not-releasable") if {
	not releasability.permits(facts.classification, facts.releasableto, facts.agency)
}

_refused(facts, "purpose-unregistered") if not purpose.registered(facts.agency, facts.purpose)

_refused(facts, "role-unregistered") if not subjects.roles_registered(facts.agency, facts.roles)

_refused(facts, "topic-unknown") if not publishing.topic_known(facts.topic)

_refused(facts, "type-unregistered") if not publishing.type_registered(facts.type)
