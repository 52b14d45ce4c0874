package entente.subjects_test

import data.entente.subjects

_agencies := {"ems": {"roles": ["paramedic"], "attributes": {"clearance": "amber"}}, "bare": {}}

test_registered if {
	subjects.registered("ems") with data.data.agencies as _agencies
	every agency in ["EMS", "", null, 1, ["ems"]] {
		subjects.registered(agency) == false with data.data.agencies as _agencies
	}
}

test_within_ceiling if {
	subjects.within_ceiling("ems", "green") with data.data.agencies as _agencies
	subjects.within_ceiling("ems", "amber") with data.data.agencies as _agencies
	not subjects.within_ceiling("ems", "red") with data.data.agencies as _agencies
}

test_within_ceiling_is_false_for_what_is_missing if {
	subjects.within_ceiling("ems", null) == false with data.data.agencies as _agencies
	subjects.within_ceiling("bare", "clear") == false with data.data.agencies as _agencies
	subjects.within_ceiling("nobody", "clear") == false with data.data.agencies as _agencies
}

test_roles if {
	subjects.roles_registered("ems", ["paramedic"]) with data.data.agencies as _agencies
	subjects.roles_registered("ems", []) with data.data.agencies as _agencies
	not subjects.roles_registered("ems", ["paramedic", "officer"]) with data.data.agencies as _agencies
	subjects.roles_registered("bare", ["paramedic"]) == false with data.data.agencies as _agencies
	every roles in [null, "paramedic", {"a": "paramedic"}, 1] {
		subjects.roles_registered("ems", roles) == false with data.data.agencies as _agencies
	}
}
