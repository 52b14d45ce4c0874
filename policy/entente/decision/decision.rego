# METADATA
# title: Decision
# description: |
#   The entry point, and the one place where answers are composed. The order is:
#
#   1. The exchange's rules answer `release`, `notice` or `withhold`. A `withhold` is final.
#   2. The modules of the agencies concerned are asked. Any denial withholds.
#   3. What they redact makes treatments stricter; what they oblige is added.
#
#   Nothing here or in a module can turn a `withhold` into anything else.
package entente.decision

import data.entente.admin
import data.entente.auditing
import data.entente.delivering
import data.entente.facts
import data.entente.modules
import data.entente.publishing
import data.entente.subscribing
import data.entente.treatments

# METADATA
# title: One output for each item of the input
# description: |
#   Each carries its item's id and depends on that item alone. An item that is not understood is withheld.
# entrypoint: true
# schemas:
#   - input: schema["input.schema"]
decisions := [output |
	some item in input.items
	output := object.union({"id": _id(item)}, _verdict(item))
]

default _id(_) := ""

_id(item) := item.id if is_string(item.id)

default _verdict(_) := {"effect": "withhold", "treatments": {}, "obligations": [], "reasons": ["malformed-item"]}

_verdict(item) := _composed(_grant(item), item)

_grant(item) := publishing.grant(facts.of(item)) if item.action == "publish"

_grant(item) := subscribing.grant(facts.of(item)) if item.action == "subscribe"

_grant(item) := delivering.grant(facts.of(item)) if item.action == "deliver"

_grant(item) := auditing.grant(facts.of(item)) if item.action == "audit"

_grant(item) := admin.grant(facts.of_administering(item)) if item.action == "administer"

# A withheld item says nothing but why.
_withheld(reasons) := {"effect": "withhold", "treatments": {}, "obligations": [], "reasons": sort(reasons)}

_composed(grant, _) := _withheld(grant.reasons) if grant.effect == "withhold"

_composed(grant, item) := _restricted(grant, answers) if {
	grant.effect != "withhold"
	answers := _answers(item)
	count(answers) == count(_sides(item)) # an answer that went missing may have been a denial
}

# METADATA
# description: The one precedence, a denial anywhere wins.
# scope: rule
_restricted(grant, answers) := _withheld(denials) if {
	denials := {reason | some agency, answer in answers; some text in answer.deny; reason := concat(": ", [agency, text])}
	count(denials) > 0
} else := object.union(grant, {
	"treatments": treatments.tightened(grant.treatments, {redaction |
		some answer in answers
		some redaction in answer.redact
	}),
	"obligations": sort(grant.obligations | {obligation | some answer in answers; some obligation in answer.oblige}),
	"reasons": sort(grant.reasons),
})

# By agency, what its module says: the owner's module on who receives its records, the consumer's on what its people
# receive. An agency that reads its own record is asked once, as consumer.
_answers(item) := {agency: answer |
	asked := object.remove(item, ["id"])
	some agency, side in _sides(item)
	answer := modules.ask(agency, side, asked)
}

_sides(item) := {item.subject.agency: "owner"} if item.action == "publish"

_sides(item) := {item.subject.agency: "consumer"} if item.action in {"administer", "audit", "subscribe"}

_sides(item) := object.union({item.record.agency: "owner"}, {item.subject.agency: "consumer"}) if {
	item.action == "deliver"
}
