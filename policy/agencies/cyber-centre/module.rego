# METADATA
# title: National Cyber Centre
# description: Who receives this agency's own records, beyond what its agreements say.
# schemas:
#   - input: schema["agency.schema"]
package agencies["cyber-centre"]

import data.entente.lib

# METADATA
# title: Denials
# description: |
#   While an investigation is active, what belongs to it is for law enforcement only, whatever an agreement grants for
#   another purpose.
deny contains "active investigations are for law enforcement only" if {
	input.side == "owner"
	input.item.action == "deliver"
	lib.in_category(input.item, "active-investigation")
	not lib.for_purpose(input.item, "law-enforcement")
}

# METADATA
# title: Obligations
# description: Special categories of personal data are deleted once the purpose is served.
oblige contains "delete-when-purpose-served" if {
	input.side == "owner"
	input.item.action == "deliver"
	lib.in_category(input.item, "special-category")
}
