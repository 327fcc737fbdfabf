"""`make verify` passes on what is on record, and fails when a number of it is altered."""

import pandas as pd
import pytest

from poolae import UserError, verify
from poolae.__main__ import main

NUMBERS = dict.fromkeys(verify.METRICS, 0.5)


def table(values, **machine):
    here = dict(processor="A", model="25-17", threads=1, torch="2", arm="pool0")
    rows = [
        {"profile": "smoke", "seed": seed, **NUMBERS, **here, **machine}
        | {"mean_absolute_error": value}
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_on_the_same_machine_numbers_must_be_equal():
    record = table([0.04, 0.05])
    assert verify.compare(record, table([0.04]))["same"].all()
    differing = verify.compare(record, table([0.0400001]))
    assert list(differing.loc[~differing["same"], "metric"]) == ["mean_absolute_error"]


@pytest.mark.parametrize("other", [{"processor": "B"}, {"model": "25-1"}, {"torch": "2+cpu"}])
def test_on_another_machine_they_may_differ_by_the_range_over_seeds(other):
    record = table([0.04, 0.05])
    near, far = (verify.compare(record, table([v], **other)) for v in (0.0499, 0.0501))
    assert near["same"].all() and near["tolerance"][0] == pytest.approx(0.01)
    assert list(far.loc[~far["same"], ["run", "metric"]].to_numpy().ravel()) == [
        "pool0-seed0",
        "mean_absolute_error",
    ]


def test_the_range_is_that_of_the_arm_whose_seeds_differ_most():
    record = pd.concat([table([0.04, 0.04]), table([0.04, 0.05], arm="pool1")])
    assert verify.compare(record, table([0.0499], processor="B"))["same"].all()


def test_a_run_that_is_not_on_record_is_named():
    with pytest.raises(UserError, match="pool0-seed0 is 0 times"):
        verify.compare(table([]).reindex(columns=[*table([1]).columns]), table([0.04]))
    with pytest.raises(UserError, match="PROFILE of `make verify` is 'standard'"):
        verify.verify("standard")


def test_the_record_holds_every_part():
    record = pd.read_csv(verify.RECORD)
    for profile, (depths, seeds) in verify.PARTS.items():
        rows = record[record["profile"] == profile]
        assert set(zip(rows["arm"], rows["seed"], strict=True)) == {
            (f"pool{depth}", seed) for depth in depths for seed in seeds
        }


@pytest.mark.slow
def test_verifying_passes_and_fails_when_a_number_is_altered(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(verify.PARTS, "smoke", ((0,), (0, 1)))
    monkeypatch.delitem(verify.PARTS, "quick")
    monkeypatch.setattr(verify, "RECORD", tmp_path / "verify.csv")
    assert main(["verify", "--record"]) == 0
    assert main(["verify", "--profile", "smoke"]) == 0
    record = pd.read_csv(verify.RECORD)
    record.loc[0, "accuracy_0.050"] += 1e-4
    record.to_csv(verify.RECORD, index=False)
    capsys.readouterr()
    assert main(["verify", "--profile", "smoke"]) == 2
    assert "1 of 5 numbers differ from verify.csv" in capsys.readouterr().err
