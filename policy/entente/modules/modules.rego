# METADATA
# title: Agency modules
# description: |
#   The one place where an agency's own module is asked. A module is `package agencies["<agency>"]` and sees as its
#   `input` nothing but `agency`, its own name, `side`, `owner` (for its own record) or `consumer` (for its own people), and
#   `item`, the input item without its id. It may define three sets, each by `contains` rules:
#
#   * `deny contains reason`: withholds, whatever else was decided;
#   * `redact contains {"marking": marking, "treatment": treatment}`: makes a marking's treatment stricter;
#   * `oblige contains obligation`: adds an obligation.
#
#   Sets, because rules that add to one never conflict, and a conflict would spoil a whole batch. An answer of any other
#   form denies.
# schemas:
#   - input: schema["agency.schema"]
package entente.modules

import data.entente.lib

# METADATA
# title: What an agency's module says of an item
# description: |
#   Empty sets for an agency without a module. `item` has to come without its id: a decision that depended on it would
#   not be the same for the next item.
ask(agency, side, item) := said if {
	said := answer with input as {"agency": agency, "side": side, "item": item}
}

# METADATA
# title: The answer of the module of `input.agency`
# description: Evaluated by `ask` with the module's own input, and meaningless with any other.
answer := {"deny": _deny, "redact": _redact, "oblige": _oblige} if {
	_well_formed
} else := {"deny": {"its module answers in a wrong form"}, "redact": set(), "oblige": set()}

default _deny := set()

_deny := data.agencies[input.agency].deny

default _redact := set()

_redact := data.agencies[input.agency].redact

default _oblige := set()

_oblige := data.agencies[input.agency].oblige

_well_formed if {
	_are_texts(_deny)
	_are_texts(_oblige)
	_are_redactions(_redact)
}

_are_texts(values) if {
	is_set(values)
	every value in values {
		is_string(value)
	}
}

# A misspelt marking would redact nothing, and nobody would be told.
_is_marking("unreviewed")

_is_marking(name) if {
	is_string(name)
	lib.holds(data.data.vocabulary.markings, name)
}

_are_redactions(values) if {
	is_set(values)
	every value in values {
		object.keys(value) == {"marking", "treatment"}
		_is_marking(value.marking)
		is_object(value.treatment)
	}
}
