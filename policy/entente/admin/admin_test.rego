package entente.admin_test

import data.entente.admin

_people := {"exchange": ["admin-1", "admin-2"], "ems": ["admin-1", "admin-2"], "transport": []}

_operator := {"agency": "exchange", "id": "admin-1", "roles": ["exchange-admin"]}

_owner := {"agency": "ems", "id": "admin-1", "roles": ["agency-admin"]}

_auditor := {"agency": "exchange", "id": "auditor-1", "roles": ["auditor"]}

_module := {"kind": "module", "owner": "ems"}

_rules := {"kind": "exchange", "owner": ""}

# A change of both sides, by the exchange's second administrator, approved by the first and by one of the agency.
_change := {
	"areas": [_rules, _module],
	"author": {"agency": "exchange", "id": "admin-2"},
	"approvals": [{"agency": "ems", "id": "admin-1"}, {"agency": "exchange", "id": "admin-1"}],
	"about": {},
}

_asked(who, verb, others) := object.union(object.remove(whole, object.keys(others)), others) if {
	whole := object.union_n([_change, who, {"verb": verb}])
}

_refusals(who, verb, others) := answer.reasons if {
	answer := admin.grant(_asked(who, verb, others)) with data.data.administrators as _people
		with data.data.administration as {"approvals": {"exchange": 1, "agency": 1}}
	answer.effect == "withhold"
} else := set()

test_an_exchange_administrator_proposes_anything if {
	_refusals(_operator, "propose", {}) == set()
	_refusals(_operator, "propose", {"areas": [_module]}) == set()
}

test_an_agency_s_administrator_proposes_what_is_the_agency_s if {
	every kind in ["agreement", "cases", "guarantees", "keys", "module", "record_type"] {
		_refusals(_owner, "propose", {"areas": [{"kind": kind, "owner": "ems"}]}) == set()
		_refusals(_owner, "propose", {"areas": [_module, {"kind": kind, "owner": "cyber-centre"}]}) == {"not-yours"}
		_refusals(_owner, "propose", {"areas": [{"kind": kind, "owner": ""}]}) == {"not-yours"}
	}
	every kind in ["agency", "exchange", "topic", "vocabulary"] {
		_refusals(_owner, "propose", {"areas": [{"kind": kind, "owner": "ems"}]}) == {"not-yours"}
	}
}

test_areas_that_are_not_understood_are_nobody_s if {
	odd := [
		null, [], {}, "module", [null], [[]], [{}], [{"kind": "module"}], [{"owner": "ems"}],
		[{"kind": "modul", "owner": "ems"}], [{"kind": "module", "owner": null}], [{"kind": ["module"], "owner": "ems"}],
		[{"kind": "exchange", "owner": null}], [_module, {}], {"a": _module},
	]
	every areas in odd {
		every verb in ["propose", "approve", "reject", "activate", "rollback"] {
			"areas-unknown" in _refusals(_operator, verb, {"areas": areas})
		}
		"areas-unknown" in _refusals(_owner, "propose", {"areas": areas})
	}
}

test_the_exchange_acts_for_an_agency_without_administrators if {
	admin.sides([{"kind": "module", "owner": "transport"}]) == {"exchange"} with data.data.administrators as _people
	admin.sides([{"kind": "module", "owner": "nobody"}]) == {"exchange"} with data.data.administrators as _people
	admin.sides([_module, _rules]) == {"ems", "exchange"} with data.data.administrators as _people
	admin.sides([_module]) == {"exchange"} with data.data.administrators as {"ems": "admin-1"}
	admin.sides([_module]) == {"exchange"} with data.data.administrators as {}
}

test_only_who_is_listed_and_acts_in_the_role_administers if {
	every who in [
		object.union(_owner, {"id": "admin-3"}),
		object.union(_owner, {"id": null}),
		object.union(_owner, {"roles": ["paramedic"]}),
		object.union(_owner, {"roles": []}),
		object.union(_owner, {"roles": null}),
		object.union(_owner, {"agency": "transport"}),
		object.union(_operator, {"roles": ["auditor"]}),
		_auditor,
	] {
		every verb in [
			"propose", "approve", "reject", "activate", "rollback",
			"suspend", "ratify", "lift", "withdraw",
		] {
			"not-entitled" in _refusals(who, verb, {"about": {"owner": who.agency}})
		}
	}
}

test_an_agency_s_administrator_is_none_of_the_exchange if {
	taken := object.union(_owner, {"roles": ["exchange-admin"]})
	"not-entitled" in _refusals(taken, "suspend", {"about": {"owner": ""}})
	"role-unregistered" in _refusals(taken, "suspend", {"about": {"owner": ""}})
	"not-entitled" in _refusals(object.union(_operator, {"roles": ["agency-admin"]}), "propose", {})
}

test_a_stranger_is_told_nothing_of_the_change if {
	stranger := {"agency": "nobody", "id": "admin-1", "roles": []}
	_refusals(stranger, "activate", {"approvals": []}) == {"agency-unregistered", "not-entitled"}
}

test_approval_is_by_another_person_of_a_side_concerned if {
	_refusals(_operator, "approve", {}) == set()
	_refusals(_owner, "approve", {}) == set()
	_refusals(object.union(_operator, {"id": "admin-2"}), "approve", {}) == {"own-proposal"}
	_refusals(_owner, "approve", {"author": {"agency": "ems", "id": "admin-1"}}) == {"own-proposal"}
	_refusals(_operator, "approve", {"areas": [_module]}) == {"not-concerned"}
	_refusals(_owner, "approve", {"areas": [_rules]}) == {"not-concerned"}
}

test_an_author_who_is_not_known_could_be_anybody if {
	every author in [null, {}, "admin-1", {"agency": "ems"}, {"id": "admin-2"}, {"agency": null, "id": null}] {
		"own-proposal" in _refusals(_operator, "approve", {"author": author})
		refusals := _refusals(_operator, "activate", {"author": author})
		{"approval-missing: ems", "approval-missing: exchange", "author-not-entitled"} & refusals == {
			"approval-missing: ems", "approval-missing: exchange",
			"author-not-entitled",
		}
		"own-suspension" in _refusals(_operator, "ratify", {"about": {"owner": ""}, "author": author})
	}
}

test_rejection_is_by_a_side_concerned_or_by_the_author if {
	_refusals(_operator, "reject", {}) == set()
	_refusals(_owner, "reject", {}) == set()
	_refusals(_owner, "reject", {"areas": [_rules]}) == {"not-concerned"}
	_refusals(_operator, "reject", {"areas": [_module]}) == {"not-concerned"}
	_refusals(object.union(_operator, {"id": "admin-2"}), "reject", {"areas": [_module]}) == set()
}

test_what_both_sides_have_approved_is_activated if {
	every verb in ["activate", "rollback"] {
		_refusals(_operator, verb, {}) == set()
		_refusals(_owner, verb, {}) == set()
		_refusals(object.union(_operator, {"id": "admin-2"}), verb, {}) == set()
	}
}

test_each_side_has_to_approve if {
	ems := {"agency": "ems", "id": "admin-1"}
	exchange := {"agency": "exchange", "id": "admin-1"}
	every verb in ["activate", "rollback"] {
		_refusals(_operator, verb, {"approvals": [ems]}) == {"approval-missing: exchange"}
		_refusals(_operator, verb, {"approvals": [exchange]}) == {"approval-missing: ems"}
		_refusals(_operator, verb, {"approvals": []}) == {"approval-missing: ems", "approval-missing: exchange"}
		_refusals(_operator, verb, {"areas": [_module], "approvals": [exchange]}) == {"approval-missing: ems"}
		_refusals(_operator, verb, {"areas": [_rules], "approvals": [ems]}) == {"approval-missing: exchange"}
	}
}

test_approvals_that_do_not_count if {
	own := {"areas": [_module], "author": {"agency": "ems", "id": "admin-2"}}
	_refusals(_owner, "activate", object.union(own, {"approvals": [{"agency": "ems", "id": "admin-1"}]})) == set()
	every approvals in [
		null, {}, "admin-1", [null], ["admin-1"], [{}], [{"agency": "ems"}], [{"id": "admin-1"}],
		[{"agency": "ems", "id": null}],
		[{"agency": "ems", "id": "admin-2"}], # the author's own
		[{"agency": "ems", "id": "admin-3"}], # no administrator, or not any more
		[{"agency": "exchange", "id": "admin-1"}], # of another side
		{"a": {"agency": "ems", "id": "admin-1"}},
	] {
		_refusals(_owner, "activate", object.union(own, {"approvals": approvals})) == {"approval-missing: ems"}
	}
}

test_persons_are_counted_and_not_approvals if {
	first := {"agency": "exchange", "id": "admin-1"}
	third := {"agency": "exchange", "id": "admin-3"}
	author := {"agency": "exchange", "id": "admin-2"}
	approvals := [first, object.union(first, {"again": true}), author, third, {"agency": "ems", "id": "admin-1"}]
	persons := admin.approvers(author, approvals) with data.data.administrators as {
		"exchange": ["admin-1", "admin-2", "admin-3"],
		"ems": ["admin-1"],
	}
	persons == {"exchange": {"admin-1": true, "admin-3": true}, "ems": {"admin-1": true}}
	admin.approved("exchange", persons) with data.data.administration as {"approvals": {"exchange": 2, "agency": 1}}
	not admin.approved("exchange", persons) with data.data.administration as {"approvals": {"exchange": 3, "agency": 1}}
	not admin.approved("ems", persons) with data.data.administration as {"approvals": {"exchange": 1, "agency": 2}}
	admin.approved("ems", {}) == false
}

test_counts_that_are_not_set_are_never_reached if {
	every counts in [
		{}, {"approvals": {}}, {"approvals": null}, {"approvals": {"agency": 1}}, {"approvals": {"exchange": null}},
		{"approvals": {"exchange": 0}}, {"approvals": {"exchange": -1}}, {"approvals": {"exchange": "1"}},
		{"approvals": {"exchange": false}},
	] {
		admin.approved("exchange", {"exchange": {"admin-1": true}}) == false with data.data.administration as counts
	}
}

test_an_author_has_to_be_an_administrator_still if {
	gone := {"author": {"agency": "exchange", "id": "admin-9"}}
	_refusals(_operator, "activate", gone) == {"author-not-entitled"}
	foreign := {"areas": [_rules], "author": {"agency": "ems", "id": "admin-2"}}
	_refusals(_operator, "activate", foreign) == {"author-not-entitled"}
}

test_an_agency_that_is_not_concerned_activates_nothing if {
	approvals := [{"agency": "exchange", "id": "admin-1"}]
	_refusals(_owner, "activate", {"areas": [_rules], "approvals": approvals}) == {"not-concerned"}
}

test_an_exchange_administrator_suspends_and_lifts if {
	every verb in ["suspend", "lift"] {
		_refusals(_operator, verb, {"about": {"owner": ""}}) == set()
		_refusals(_owner, verb, {"about": {"owner": ""}}) == {"not-yours"}
	}
}

test_an_owner_suspends_and_lifts_for_itself if {
	every verb in ["suspend", "lift"] {
		_refusals(_owner, verb, {"about": {"owner": "ems"}}) == set()
		_refusals(_owner, verb, {"about": {"owner": "cyber-centre"}}) == {"not-yours"}
		_refusals(_operator, verb, {"about": {"owner": "ems"}}) == {"not-yours"}
	}
}

test_a_second_exchange_administrator_ratifies if {
	_refusals(_operator, "ratify", {"about": {"owner": ""}}) == set()
	own := {"about": {"owner": ""}, "author": {"agency": "exchange", "id": "admin-1"}}
	_refusals(_operator, "ratify", own) == {"own-suspension"}
	_refusals(_owner, "ratify", {"about": {"owner": ""}}) == {"not-yours"}
	_refusals(_operator, "ratify", {"about": {"owner": "ems"}}) == {"needs-nobody"}
}

test_owners_withdraw if {
	_refusals(_owner, "withdraw", {"about": {"owner": "ems"}}) == set()
	_refusals(_owner, "withdraw", {"about": {"owner": "cyber-centre"}}) == {"not-yours"}
	_refusals(_operator, "withdraw", {"about": {"owner": "ems"}}) == {"not-yours"}
	_refusals(_operator, "withdraw", {"about": {"owner": ""}}) == {"not-yours"}
}

test_who_reads_what if {
	every verb in ["read", "explain", "simulate"] {
		every owner in ["", "ems", "transport"] {
			_refusals(_operator, verb, {"about": {"owner": owner}}) == set()
			_refusals(_auditor, verb, {"about": {"owner": owner}}) == set()
		}
		_refusals(_owner, verb, {"about": {"owner": "ems"}}) == set()
		_refusals(_owner, verb, {"about": {"owner": ""}}) == {"not-entitled"}
		_refusals(_owner, verb, {"about": {"owner": "transport"}}) == {"not-entitled"}
		_refusals(object.union(_owner, {"roles": ["paramedic"]}), verb, {"about": {"owner": "ems"}}) == {"not-entitled"}
		"not-entitled" in _refusals(object.union(_owner, {"roles": ["auditor"]}), verb, {"about": {"owner": ""}})
	}
}

test_what_it_is_about_has_to_be_said if {
	every about in [null, {}, "ems", [], {"owner": null}, {"owner": ["ems"]}, {"owners": "ems"}, {"owner": 1}] {
		every verb in ["suspend", "lift", "ratify", "withdraw", "read", "explain", "simulate"] {
			every who in [_operator, _owner, _auditor] {
				count(_refusals(who, verb, {"about": about})) > 0
			}
		}
	}
}

test_an_unknown_verb_is_nobody_s if {
	every verb in [null, "", "Propose", "delete", 1, ["propose"]] {
		"not-entitled" in _refusals(_operator, verb, {"about": {"owner": ""}})
	}
}

test_each_fact_is_needed if {
	whole := _asked(_owner, "activate", {})
	every name in ["agency", "approvals", "areas", "author", "id", "roles", "verb"] {
		every odd in [null, 1, "", "odd", {}, []] {
			answer := admin.grant(object.union(object.remove(whole, [name]), {name: odd}))
				with data.data.administrators as _people
			answer.effect == "withhold"
		}
	}
}

test_nobody_administers_without_administrators if {
	every none in [{}, null, {"ems": null}, {"ems": {}}, {"ems": "admin-1"}, {"ems": [null]}, {"ems": [["admin-1"]]}] {
		admin.administrator("ems", "admin-1", ["agency-admin"]) == false with data.data.administrators as none
		admin.administered("ems") == false with data.data.administrators as none
		admin.listed("ems", "admin-1") == false with data.data.administrators as none
	}
	admin.listed("ems", null) == false with data.data.administrators as {"ems": [null]}
}
