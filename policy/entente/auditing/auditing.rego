# METADATA
# title: Auditing
# description: |
#   Who may read the ledger through the broker, and how much of it. The exchange's auditors read everything, and record
#   topics whole. An agency's administrators read what is about their agency's records and people. Nobody else reads
#   anything.
package entente.auditing

import data.entente.lib
import data.entente.subjects

# METADATA
# title: The agency that runs the exchange
# description: Only its auditors see what is not their own agency's, so no agency can make an auditor of its own people.
operator := "exchange"

# METADATA
# title: The exchange's answer to an audit item's facts
grant(facts) := _answer(facts.scope, _refusals(facts))

_answer(scope, refusals) := {"effect": "withhold", "reasons": refusals} if {
	count(refusals) > 0
} else := {"effect": "release", "treatments": {}, "obligations": set(), "reasons": {_reasons[scope]}}

_reasons := {"agency": "administrator", "exchange": "auditor", "records": "auditor"}

_refusals(facts) := {reason | some reason, met in demands; not met} if demands := _demands(facts)

# Each is true or false, whatever the facts.
_demands(facts) := {
	"agency-unregistered": subjects.registered(facts.agency),
	"not-entitled": entitled(facts.scope, facts.agency, facts.roles),
	"role-unregistered": subjects.roles_registered(facts.agency, facts.roles),
}

# METADATA
# title: Whether somebody of an agency in these roles may read so much
# description: "`scope` is `exchange`, all of the ledger; `agency`, their own part of it; or `records`, a record topic."
default entitled(_, _, _) := false

entitled("exchange", agency, roles) if _auditor(agency, roles)

entitled("records", agency, roles) if _auditor(agency, roles)

entitled("agency", _, roles) if lib.holds(roles, "agency-admin")

_auditor(agency, roles) if {
	agency == operator
	lib.holds(roles, "auditor")
}
