"""What the terms of the incentive rule say by themselves."""

from covey_api.incentives import IncentivesSpec


def test_short_tasks_are_warned_of():
    spec = IncentivesSpec()
    assert len(spec.warnings(25)) == 2
    assert len(spec.warnings(30)) == 1
    assert spec.warnings(35) == []


def test_epochs_in_shadow_remove_nobody():
    assert "before epoch 9" in IncentivesSpec(shadow_epochs=3).warnings(40)[0]
    assert IncentivesSpec(shadow_epochs=3).warnings(45) == []
