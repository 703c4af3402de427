"""P-values of tables: adjusted by family, with the smallest that is possible, and recorded with it."""

import numpy as np
import pandas as pd
import pytest

from anonlib.metrics.statistics import holm, smallest_p
from anonlib.paper import comparisons, headline, summary, tables
from tests.ranks import PEOPLE, joined, told


def test_each_family_is_adjusted_by_itself_and_rows_without_a_test_do_not_count() -> None:
    p = {"p": [0.01, 0.04, np.nan, 0.02], "p_lo": [0.01, 0.001, np.nan, 0.002]}
    frame = pd.DataFrame({"attacker": ["a", "b", "a", "a"]} | p, index=[3, 1, 4, 2])
    found = comparisons.with_holm(frame, "attacker")
    np.testing.assert_allclose(found.p_holm, [0.02, 0.04, np.nan, 0.02])
    np.testing.assert_allclose(found.p_holm_lo, [0.01, 0.001, np.nan, 0.004])
    together = comparisons.with_holm(frame.rename(columns={"p": "q", "p_lo": "q_lo"}), p="q")
    np.testing.assert_allclose(together.q_holm, [0.03, 0.04, np.nan, 0.04])
    np.testing.assert_allclose(together.q_holm_lo, [0.01, 0.003, np.nan, 0.004])
    assert together.index.tolist() == [3, 1, 4, 2] and {"p_holm", "p_holm_lo"} <= set(comparisons.with_holm(frame[:0]))


@pytest.fixture(scope="module")
def ranks() -> pd.DataFrame:
    shares = {("ia-none", "full"): 0.0, ("ia-hed", "full"): 1.0, ("ia-depth", "full"): 0.4}
    shares |= {("ia-hed", "few"): 0.5, ("ia-hed", "single"): 0.1}
    return joined(*(told(name, "sface", share, protocol) for (name, protocol), share in shares.items()))


def test_p_values_are_recorded_with_the_smallest_that_is_possible(ranks) -> None:
    table = tables.attack_table(ranks, n_bootstrap=200)
    paired = comparisons.conditioning_table(ranks, table, n_resamples=99)
    floor = smallest_p(PEOPLE, 99)
    number = paired.entries["attack/ia-hed/sface/full/gain_over_ia-none_p"]
    assert number.value == number.lo == 2 * floor == 0.02 and number.hi is None, "two tests, and all people differ"
    weaker = paired.frame[(paired.frame.anonymizer == "ia-depth") & (paired.frame.attacker == "sface")]
    assert weaker.p_holm_lo.item() == 0.02 and weaker.p_lo.item() == floor
    only = ranks[ranks.anonymizer == "ia-hed"]
    lost = comparisons.references_table(only, tables.attack_table(only, n_bootstrap=200), n_resamples=99)
    assert lost.entries["attack/ia-hed/selected/full/gain_over_single_p"].lo == floor
    assert set(lost.frame.p_lo) == {floor}
    (interval,) = summary.group({"data/gain_p": number._asdict()}, "data").interval
    assert interval == "\u2014", "a p-value has no interval"


def test_the_headlines_p_values_are_one_family_with_its_smallest() -> None:
    def entry(value: float, lo: float | None = None) -> dict:
        return {"value": value, "lo": lo, "hi": None, "n": PEOPLE}

    p, results = {"blur": 0.001, "mask": 0.03, "noop": None}, {}
    for name, value in p.items():
        results[f"attack/{name}/maximum/full/top1"] = entry(0.5)
        if value:
            results[f"attack/{name}/maximum/full/gain_over_background-only_p"] = entry(value, 0.001)
    numbers = headline.headline(results).entries
    found = {name: numbers[f"headline/{name}/full/gain_over_background-only_p"] for name in p}
    assert [found[name].value for name in ("blur", "mask")] == holm([0.001, 0.03]).tolist() == [0.002, 0.03]
    assert found["blur"].lo == found["mask"].lo == 0.002 and np.isnan(found["noop"].value)
