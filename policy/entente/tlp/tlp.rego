# METADATA
# title: Traffic Light Protocol 2.0
# description: |
#   What the classifications mean between agencies (FIRST, TLP 2.0). Their order is the vocabulary's.
#   `red` is for named recipients only: it goes to a consumer that the record's `releasableto` names, to no other.
#   `amber+strict` stays within the recipient's organisation. The exchange releases to one agency at a time, so that is
#   `amber` with the obligation not to share onward. A recipient of `red` has the same obligation, and that of
#   keeping it to the persons who received it.
package entente.tlp

import data.entente.lib

# METADATA
# title: Whether a clearance covers a classification
# description: False if either is missing or not in the vocabulary; `clear` too needs a clearance.
default covers(_, _) := false

covers(clearance, classification) if lib.at_most(classification, clearance)

# METADATA
# title: Whether a classification goes to named recipients only
default named_recipients_only(_) := false

named_recipients_only("red")

# METADATA
# title: What a classification obliges its recipients to
default obligations(_) := set()

obligations("amber+strict") := {"no-onward-sharing"}

obligations("red") := {"named-recipients-only", "no-onward-sharing"}
