# METADATA
# title: Facts
# description: |
#   One input item, flattened and complete. What an item does not say is null here, and null permits nothing
#   anywhere, so no rule behind this one has to think about undefined references.
package entente.facts

# METADATA
# title: The facts of one item
# description: Undefined if the item is not an object. The item's id is not among them, since no decision may depend on it.
of(item) := {
	"agency": object.get(item, ["subject", "agency"], null),
	"roles": object.get(item, ["subject", "roles"], null),
	"clearance": object.get(item, ["subject", "attributes", "clearance"], null),
	"purpose": object.get(item, ["subject", "purpose"], null),
	"topic": object.get(item, ["topic"], null),
	"type": object.get(item, ["record", "type"], null),
	"owner": object.get(item, ["record", "agency"], null),
	"labels": object.get(item, ["record", "labels"], null),
	"classification": object.get(item, ["record", "labels", "dataclassification"], null),
	"purposes": object.get(item, ["record", "labels", "purposes"], null),
	"releasableto": object.get(item, ["record", "labels", "releasableto"], null),
	"markings": object.get(item, ["record", "markings"], null),
	"scope": object.get(item, ["scope"], null),
}

# METADATA
# title: The facts of an administer item
# description: As `of`, with the person, since administrators are listed one by one.
of_administering(item) := {
	"agency": object.get(item, ["subject", "agency"], null),
	"id": object.get(item, ["subject", "id"], null),
	"roles": object.get(item, ["subject", "roles"], null),
	"verb": object.get(item, ["verb"], null),
	"areas": object.get(item, ["areas"], null),
	"author": object.get(item, ["author"], null),
	"approvals": object.get(item, ["approvals"], null),
	"about": object.get(item, ["about"], null),
}
