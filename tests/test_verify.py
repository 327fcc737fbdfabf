"""`make verify` passes on what is on record, and fails when a number or the training is altered."""

import dataclasses
import os
from unittest.mock import patch

import pandas as pd
import pytest

from poolae import UserError
from poolae.__main__ import main
from poolae.paper import verify
from poolae.settings import DEPTHS

NUMBERS = dict.fromkeys(verify.METRICS, 0.5)


def table(*kinds, error=0.04):
    """Made-up rows of pool0: each (kind, what it adds to the error)."""
    rows = [
        {"arm": "pool0", "kind": kind, **NUMBERS} | {"mean_absolute_error": error + added}
        for kind, added in kinds
    ]
    return pd.DataFrame(rows)


RECORD = table(*zip(verify.KINDS, (0, 1e-6, -3e-6, 2e-6, 0, 1e-6), strict=True))


def found(error):
    return table(("as it is", 0), error=error)


def test_numbers_may_differ_by_a_multiple_of_what_other_sums_changed():
    near, far = (verify.compare(RECORD, found(0.04 + by)) for by in (2.3e-5, 2.5e-5))
    assert near["same"].all() and near["tolerance"][0] == pytest.approx(verify.FACTOR * 3e-6)
    assert list(far.loc[~far["same"], ["run", "metric"]].to_numpy().ravel()) == [
        "pool0",
        "mean_absolute_error",
    ]


def test_a_number_that_nothing_changed_may_differ_in_its_last_digit():
    one = verify.compare(RECORD, found(0.04)).set_index("metric")
    assert one.loc["ciede2000", "tolerance"] == pytest.approx(0.5e-7)


def test_a_record_that_lacks_a_row_is_named():
    with pytest.raises(UserError, match="holds pool0 3 times, not once for each of as it is"):
        verify.compare(RECORD[:3], found(0.04))


def test_the_record_holds_every_part_in_every_kind():
    record = pd.read_csv(verify.RECORD)
    assert sorted(zip(record["arm"], record["kind"], strict=True)) == sorted(
        (f"pool{depth}", kind) for depth in DEPTHS for kind in verify.KINDS
    )


ALTERED = {
    "nothing": {},
    "a learning rate 10 % higher": {"learning_rate": 1.1},
    "a learning rate 10 % lower": {"learning_rate": 0.9},
    "no mirroring": {"flips": False},
    "pooling of 2 x 2": {"pooling": "max2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_training_fails_on_any_machine(what, monkeypatch):
    plain = verify.settings_of

    def altered(depth):
        settings, changes = plain(depth), dict(ALTERED[what])
        if "learning_rate" in changes:
            changes["learning_rate"] *= settings.learning_rate
        return dataclasses.replace(settings, **changes)

    monkeypatch.setattr(verify, "settings_of", altered)
    # Without pooling where that will do: nothing pools, and it is the quickest.
    compared = verify.verify(depths=(1,) if what == "pooling of 2 x 2" else (0,))
    assert compared["same"].all() == (what == "nothing"), compared.to_string()


@pytest.mark.slow
def test_verifying_passes_and_fails_when_a_number_is_altered(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify, "RECORD", tmp_path / "verify.csv")
    monkeypatch.setattr(verify.verify, "__defaults__", ((0,),))
    with patch.dict(os.environ, verify.KINDS["as it is"]):
        once = verify.rerun(depths=(0,))
    record = pd.concat(once.assign(kind=kind) for kind in verify.KINDS)
    record.to_csv(verify.RECORD, index=False)
    assert main(["verify"]) == 0
    record["ciede2000"] *= 1.001
    record.to_csv(verify.RECORD, index=False)
    assert main(["verify"]) == 2
    assert "1 of 5 numbers differ from those of record" in capsys.readouterr().err
