"""The planned power is the power that the real test has in simulation."""

import numpy as np
import pytest
from test_metrics_statistics import correlated_hits

from anonlib.metrics import power as pw
from anonlib.metrics.statistics import sign_flip_p


@pytest.mark.parametrize(("people", "probes", "rate"), [(100, 1, 0.3), (60, 4, 0.1), (200, 1, 0.005)])
def test_resolvable_difference_is_found_four_times_in_five(people: int, probes: int, rate: float) -> None:
    difference = pw.resolvable_difference(people, probes, rate, within=0.4)
    rng, found = np.random.default_rng(0), 0
    for _ in range(200):
        a, b = (correlated_hits(people, probes, r, 0.4, rng).sum(1) for r in (rate + difference, rate))
        found += sign_flip_p(a - b.astype(float), n_resamples=300) <= 0.05
    assert 0.68 <= found / 200 <= 0.92


def test_more_people_more_probes_and_pairing_resolve_more() -> None:
    base = pw.resolvable_difference(100, 2, 0.2)
    assert pw.resolvable_difference(400, 2, 0.2) < base
    assert pw.resolvable_difference(100, 8, 0.2) < base
    assert pw.resolvable_difference(100, 2, 0.2, paired=0.5) < base
    assert pw.resolvable_difference(100, 8, 0.2, within=1.0) == pytest.approx(
        pw.resolvable_difference(100, 1, 0.2, within=1.0)
    )
    assert np.isnan(pw.resolvable_difference(2, 1, 0.5))


def test_power_table() -> None:
    table = pw.power_table(people=(50, 200), probes=(1, 5), rates=(0.1,))
    assert table.columns.tolist() == ["people", "probes", "rate", "difference"] and len(table) == 4
    assert table.difference.between(0, 1).all()
    row = table.query("people == 200 and probes == 1").iloc[0]
    assert row.difference == pytest.approx(pw.resolvable_difference(200, 1, 0.1))
