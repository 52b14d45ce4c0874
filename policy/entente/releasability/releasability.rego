# METADATA
# title: Releasability
# description: The record's `releasableto` label, which names the only agencies that may receive it.
package entente.releasability

import data.entente.lib
import data.entente.tlp

# METADATA
# title: Whether a consumer may receive a record so classified and so labelled
# description: |
#   An empty list names nobody and restricts nothing, except for a classification that goes to named recipients
#   only. A missing list permits nobody.
default permits(_, _, _) := false

permits(classification, [], _) if not tlp.named_recipients_only(classification)

permits(_, releasableto, consumer) if lib.holds(releasableto, consumer)
