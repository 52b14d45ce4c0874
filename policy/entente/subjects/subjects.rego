# METADATA
# title: Subjects
# description: |
#   Whether a subject stays within its agency's registration. The broker's identity check asks the same of each
#   token; here it is asked again, so that no decision rests on one check alone.
package entente.subjects

import data.entente.lib

# METADATA
# title: Whether an agency is registered
default registered(_) := false

registered(agency) if is_object(data.data.agencies[agency])

# METADATA
# title: Whether a clearance is no higher than its agency's ceiling
# description: False for a missing clearance.
default within_ceiling(_, _) := false

within_ceiling(agency, clearance) if lib.at_most(clearance, data.data.agencies[agency].attributes.clearance)

# METADATA
# title: Whether each role is one of its agency's
default roles_registered(_, _) := false

roles_registered(agency, roles) if {
	is_array(roles)
	every role in roles {
		role in data.data.agencies[agency].roles
	}
}
