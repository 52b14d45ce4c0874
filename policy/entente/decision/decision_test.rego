package entente.decision_test

import data.entente.decision

_labels := {"dataclassification": "amber", "datacategory": "", "dataregulation": [], "purposes": [], "releasableto": []}

_item := {
	"id": "1",
	"action": "deliver",
	"subject": {
		"agency": "ems",
		"roles": ["paramedic"],
		"attributes": {"clearance": "red"},
		"purpose": "emergency-response",
	},
	"topic": "crash-reports",
	"record": {
		"type": "gov.niem.crash-driver.v1",
		"agency": "highway-patrol",
		"labels": _labels,
		"markings": ["pii", "unreviewed"],
	},
}

_owned := object.union(_item, {"subject": {"agency": "highway-patrol", "roles": ["officer"], "purpose": "law-enforcement"}})

# Of their own: whoever ends an agreement of the data must not break what is tried of the rules.
_agreements := {"highway-patrol": {"one": {
	"consumer": "ems",
	"topics": ["crash-reports"],
	"purposes": ["emergency-response"],
	"highest": "red",
	"grants": "records",
	"treatments": {"pii": {"kind": "keep"}},
	"obligations": ["delete-after-90-days"],
	"from": "2026-01-01T00:00:00Z",
	"until": null,
	"history": true,
}}}

_outputs(items) := outputs if {
	outputs := decision.decisions with input as {"items": items} with data.data.agreements as _agreements
}

_output(item) := _outputs([item])[0]

_with_modules(modules, item) := output if {
	[output] := decision.decisions with input as {"items": [item]}
		with data.data.agreements as _agreements
		with data.agencies as modules
}

test_each_item_has_an_output_in_order if {
	outputs := _outputs([_item, null, object.union(_item, {"id": "2"}), {}, {"id": "3"}])
	[output.id | some output in outputs] == ["1", "", "2", "", "3"]
	[output.effect | some output in outputs] == ["release", "withhold", "release", "withhold", "withhold"]
}

test_no_items if {
	decision.decisions == [] with input as {}
	decision.decisions == [] with input as {"items": null}
	decision.decisions == [] with input as {"items": []}
}

test_an_unknown_action_is_withheld if {
	every action in [null, "", "read", "DELIVER", 1, ["deliver"]] {
		_output(object.union(_item, {"action": action})).reasons == ["malformed-item"]
	}
}

test_a_denial_of_the_owner_wins if {
	output := _with_modules({"highway-patrol": {"deny": {"not now", "never"}}}, _item)
	output == {
		"id": "1",
		"effect": "withhold",
		"treatments": {},
		"obligations": [],
		"reasons": ["highway-patrol: never", "highway-patrol: not now"],
	}
}

test_a_denial_of_the_consumer_wins if _with_modules({"ems": {"deny": {"no"}}}, _item).reasons == ["ems: no"]

test_a_denial_wins_over_ownership if {
	_with_modules({"highway-patrol": {"deny": {"no"}}}, _owned).effect == "withhold"
}

test_a_third_agency_is_not_asked if _with_modules({"transport": {"deny": {"no"}}}, _item).effect == "release"

test_a_module_cannot_turn_a_refusal if {
	none := {"deny": set(), "redact": {{"marking": "pii", "treatment": {"kind": "keep"}}}, "oblige": set()}
	refused := object.union(_item, {"subject": {"attributes": {"clearance": "clear"}}})
	_with_modules({"ems": none, "highway-patrol": none}, refused).effect == "withhold"
	_with_modules({"ems": none, "highway-patrol": none}, _item).treatments == _output(_item).treatments
}

test_both_sides_redact_and_oblige if {
	output := _with_modules(
		{
			"highway-patrol": {"redact": {{"marking": "pii", "treatment": {"kind": "pseudonym"}}}, "oblige": {"b"}},
			"ems": {"redact": {{"marking": "pii", "treatment": {"kind": "mask"}}}, "oblige": {"a"}},
		},
		_item,
	)
	output.treatments == {"pii": {"kind": "mask"}, "unreviewed": {"kind": "remove"}}
	output.obligations == ["a", "b", "delete-after-90-days"]
}

test_an_answer_of_another_form_withholds if _with_modules({"ems": {"deny": "no"}}, _item).effect == "withhold"

test_modules_are_asked_for_audit if {
	subject := {"agency": "ems", "id": "7", "roles": ["agency-admin"], "attributes": {}}
	item := {"id": "1", "action": "audit", "subject": subject, "scope": "agency"}
	_output(item).effect == "release"
	_with_modules({"ems": {"deny": {"no"}}}, item).reasons == ["ems: no"]
	_with_modules({"highway-patrol": {"deny": {"no"}}}, item).effect == "release"
}

test_modules_are_asked_for_administer if {
	subject := {"agency": "ems", "id": "admin-1", "roles": ["agency-admin"], "attributes": {}}
	item := {"id": "1", "action": "administer", "subject": subject, "verb": "read", "about": {"owner": "ems"}}
	people := {"ems": ["admin-1"]}
	_output(item).effect == "release" with data.data.administrators as people
	_output(item).effect == "withhold" with data.data.administrators as {}
	_with_modules({"ems": {"deny": {"no"}}}, item).reasons == ["ems: no"] with data.data.administrators as people
	_with_modules({"highway-patrol": {"deny": {"no"}}}, item).effect == "release"
		with data.data.administrators as people
}

test_modules_are_asked_for_publish_and_subscribe if {
	subject := object.union(_owned.subject, {"id": "7", "attributes": {"clearance": "red"}})
	publish := object.union(_owned, {"action": "publish", "subject": subject})
	subscribe := object.remove(object.union(publish, {"action": "subscribe"}), ["record"])
	every item in [publish, subscribe] {
		_output(item).effect == "release"
		_with_modules({"highway-patrol": {"deny": {"no"}}}, item).reasons == ["highway-patrol: no"]
	}
}
