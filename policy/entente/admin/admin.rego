# METADATA
# title: Administration
# description: |
#   Who may change the rulebook, and who may suspend, withdraw, read and explain.
#
#   What a change touches is told as areas, each of a kind and an owner. Agencies' registrations, topics, vocabularies and
#   the exchange's rules are the exchange's side; modules, record types, agreements, keys, cases and guarantees are their
#   owner's side, or the exchange's as long as the owner has no administrators. Each side approves by persons of its own,
#   none of whom is the author. Administrators are the subjects that the rulebook lists, acting in the administrator's role.
package entente.admin

import data.entente.auditing
import data.entente.lib
import data.entente.subjects

# METADATA
# title: The exchange's answer to an administer item's facts
grant(facts) := _answer(_refusals(facts))

# METADATA
# title: Whether a subject is listed as an administrator of an agency
default listed(_, _) := false

listed(agency, id) if {
	is_string(id)
	lib.holds(data.data.administrators[agency], id)
}

# METADATA
# title: Whether an agency has any administrators
default administered(_) := false

administered(agency) if {
	some id in data.data.administrators[agency]
	listed(agency, id)
}

# METADATA
# title: Whether somebody acts as an administrator of the own agency
default administrator(_, _, _) := false

administrator(agency, id, roles) if {
	listed(agency, id)
	lib.holds(roles, _role(agency))
}

# METADATA
# title: The side that an area belongs to
# description: The name of an agency; undefined for an area that is not understood.
side(area) := auditing.operator if {
	is_string(area.owner)
	area.kind in _exchange_kinds
}

side(area) := _side_of(area.owner) if area.kind in _owned_kinds

_side_of(owner) := owner if {
	administered(owner)
} else := auditing.operator if {
	is_string(owner)
}

# METADATA
# title: The sides that areas belong to
# description: Empty, unless each of them is understood.
default sides(_) := set()

sides(areas) := found if {
	is_array(areas)
	every area in areas {
		side(area)
	}
	found := {side(area) | some area in areas}
}

# METADATA
# title: Whose approvals count, by agency
# description: The author's does not, nor does that of anybody who is no administrator now.
default approvers(_, _) := {}

approvers(author, approvals) := object.union_n([{approval.agency: {approval.id: true}} |
	some approval in approvals
	listed(approval.agency, approval.id)
	_another(approval, author)
]) if {
	is_array(approvals)
}

# METADATA
# title: Whether enough persons of a side are among the approvers
default approved(_, _) := false

approved(of, persons) if {
	needed := data.data.administration.approvals[_party(of)]
	is_number(needed)
	needed >= 1
	count(persons[of]) >= needed
}

_exchange_kinds := {"agency", "exchange", "topic", "vocabulary"}

_owned_kinds := {"agreement", "cases", "guarantees", "keys", "module", "record_type"}

_changes := {"activate", "approve", "propose", "reject", "rollback"}

_overlays := {"lift", "ratify", "suspend", "withdraw"}

_readings := {"explain", "read", "simulate"}

_role(agency) := "exchange-admin" if agency == auditing.operator

_role(agency) := "agency-admin" if agency != auditing.operator

_party(of) := "exchange" if of == auditing.operator

_party(of) := "agency" if of != auditing.operator

_answer(refusals) := {"effect": "withhold", "reasons": refusals} if {
	count(refusals) > 0
} else := {"effect": "release", "treatments": {}, "obligations": set(), "reasons": {"administration"}}

# Whoever is nobody here is told nothing about a proposal.
_refusals(facts) := refusals if {
	refusals := {reason | some reason, met in _identity(facts); not met}
	count(refusals) > 0
} else := {reason | some reason, met in _demands(facts); not met}

# Each is true or false, whatever the facts.
_identity(facts) := {
	"agency-unregistered": subjects.registered(facts.agency),
	"not-entitled": _entitled(facts),
	"role-unregistered": subjects.roles_registered(facts.agency, facts.roles),
}

default _entitled(_) := false

_entitled(facts) if {
	facts.verb in (_changes | _overlays)
	administrator(facts.agency, facts.id, facts.roles)
}

_entitled(facts) if {
	facts.verb in _readings
	_reads(facts.about.owner, facts)
}

default _reads(_, _) := false

_reads(owner, facts) if {
	is_string(owner)
	auditing.entitled("exchange", facts.agency, facts.roles)
}

_reads(owner, facts) if {
	is_string(owner)
	_of_exchange(facts)
}

_reads(owner, facts) if {
	owner == facts.agency
	administrator(facts.agency, facts.id, facts.roles)
}

default _of_exchange(_) := false

_of_exchange(facts) if {
	facts.agency == auditing.operator
	administrator(facts.agency, facts.id, facts.roles)
}

# What a verb demands beyond being somebody who may ever do it: true or false each.
default _demands(_) := {"verb-unknown": false}

_demands(facts) := {} if facts.verb in _readings

_demands(facts) := {
	"areas-unknown": count(sides(facts.areas)) > 0,
	"not-yours": _covers(facts.agency, sides(facts.areas)),
} if {
	facts.verb == "propose"
}

_demands(facts) := {
	"areas-unknown": count(sides(facts.areas)) > 0,
	"not-concerned": facts.agency in sides(facts.areas),
	"own-proposal": _another(_person(facts), facts.author),
} if {
	facts.verb == "approve"
}

_demands(facts) := {
	"areas-unknown": count(sides(facts.areas)) > 0,
	"not-concerned": _concerned(facts),
} if {
	facts.verb == "reject"
}

_demands(facts) := object.union(_approvals(facts), {
	"areas-unknown": count(sides(facts.areas)) > 0,
	"author-not-entitled": _could_propose(facts.author, sides(facts.areas)),
	"not-concerned": _concerned(facts),
}) if {
	facts.verb in {"activate", "rollback"}
}

_demands(facts) := {"not-yours": _own_or_exchange(facts)} if facts.verb in {"lift", "suspend"}

_demands(facts) := {
	"needs-nobody": facts.about.owner == "",
	"not-yours": _of_exchange(facts),
	"own-suspension": _another(_person(facts), facts.author),
} if {
	facts.verb == "ratify"
	is_string(facts.about.owner)
}

_demands(facts) := {"not-yours": facts.about.owner == facts.agency} if {
	facts.verb == "withdraw"
	is_string(facts.about.owner)
}

_approvals(facts) := {reason: met |
	persons := approvers(facts.author, facts.approvals)
	some of in sides(facts.areas)
	reason := concat(": ", ["approval-missing", of])
	met := approved(of, persons)
}

# The exchange's administrators see the whole rulebook, and may propose what others have to approve.
default _covers(_, _) := false

_covers(agency, _) if agency == auditing.operator

_covers(agency, touched) if touched == {agency}

default _concerned(_) := false

_concerned(facts) if facts.agency in sides(facts.areas)

_concerned(facts) if _person(facts) == facts.author

_concerned(facts) if {
	facts.verb in {"activate", "rollback"}
	facts.agency == auditing.operator
}

default _could_propose(_, _) := false

_could_propose(author, touched) if {
	listed(author.agency, author.id)
	_covers(author.agency, touched)
}

default _own_or_exchange(_) := false

_own_or_exchange(facts) if facts.about.owner == facts.agency

_own_or_exchange(facts) if {
	facts.about.owner == ""
	_of_exchange(facts)
}

_person(facts) := {"agency": facts.agency, "id": facts.id}

# False unless both are known.
default _another(_, _) := false

_another(person, other) if {
	every text in [person.agency, person.id, other.agency, other.id] {
		is_string(text)
	}
	[person.agency, person.id] != [other.agency, other.id]
}
