# METADATA
# title: Emergency Medical Services
# description: What this agency's own people may receive, beyond what owners grant them.
# schemas:
#   - input: schema["agency.schema"]
package agencies.ems

import data.entente.lib

# METADATA
# title: Denials
# description: |
#   Records under CJIS may be handled by vetted and fingerprinted personnel only. Ours are not, so that we
#   do not take such records, even if their owner would release them.
deny contains "records under CJIS are not taken" if {
	input.side == "consumer"
	lib.under_regulation(input.item, "CJIS")
}

# METADATA
# title: Redactions
# description: Volunteers work without licence numbers.
redact contains {"marking": "identifier", "treatment": {"kind": "mask"}} if {
	input.side == "consumer"
	lib.has_role(input.item, "volunteer")
}
