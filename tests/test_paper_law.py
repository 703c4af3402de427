"""The law's data from ranks and agreements: which points, which attacker, what is stored and read again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from anonlib import config
from anonlib.paper.agreement import stored_laws
from anonlib.paper.experiments import law
from anonlib.paper.experiments.boundary import Point
from anonlib.plotting import maps

SMOKE = config.load("smoke")
PEOPLE = [f"p{k:02d}" for k in range(40)]
SETTINGS = [Point(f"ia-hed-strength-{value}", "strength", value, {}) for value in (0.1, 0.3, 0.5, 0.7, 0.9)]
AGREEMENT = {point.name: 0.3 + 0.5 * point.value for point in SETTINGS}
AGREEMENT |= {"ia-none": 0.35, "camouflage-base": 0.8, "blur": 0.4, "mask": np.nan}


def rate(name: str) -> float:
    """Rates on a curve, but for blur, which leaks more than its agreement says."""
    return 0.9 if name == "blur" else special.expit(10 * (np.nan_to_num(AGREEMENT[name], nan=0.1) - 0.6))


def ranks(name: str, attacker: str, share: float, control: bool = False, seed: int = 0) -> pd.DataFrame:
    hit = np.arange(len(PEOPLE)) < round(share * len(PEOPLE))
    frame = pd.DataFrame({"identity": PEOPLE, "source": np.arange(len(PEOPLE)), "better": np.where(hit, 0, 7)})
    frame = frame.assign(
        anonymizer=name, attacker=attacker, seed=seed, draw=0, control=control, references=5, status="ok"
    )
    frame = frame.assign(mated=True, tied=0, people=200, rank=frame.better + 1, validation_mrr=np.nan)
    return pd.concat([frame.assign(protocol="full"), frame.assign(protocol="single", better=7)])


@pytest.fixture(scope="module")
def data() -> law.LawData:
    points = [ranks(point.name, "contrastive-face-mixed", rate(point.name)) for point in SETTINGS]
    others = [name for name in AGREEMENT if name not in {point.name for point in SETTINGS}]
    systems = [ranks(name, "contrastive-face", rate(name)) for name in others]
    systems += [ranks(name, "sface", rate(name) / 2) for name in others]
    systems += [ranks(name, "background-only", 1.0, control=True) for name in others] + [ranks("noop", "sface", 1.0)]
    draws = np.random.default_rng(0)
    measured = [
        pd.DataFrame({"anonymizer": name, "identity": PEOPLE[:12], "ok": True}).assign(
            **{key: mean + 0.01 * draws.normal(size=12) for key, mean in (("hed", value), ("canny", value / 3))},
            depth=0.9 if name == "mask" else draws.uniform(0.9, 0.95, 12),
        )
        for name, value in (AGREEMENT | {"ceiling": 0.95, "floor": 0.2, "noop": 1.0}).items()
    ]
    collected = [pd.concat(points), pd.concat(systems)]
    return law.collect(SETTINGS, collected, pd.concat(measured), SMOKE.evaluate)


def test_every_setting_and_system_is_a_point_under_its_strongest_attacker(data) -> None:
    frame = data.frame.set_index("anonymizer")
    assert set(frame.index) == set(AGREEMENT), "neither controls nor ceiling and floor"
    assert frame.kind.to_dict() == {
        **{point.name: law.SETTINGS for point in SETTINGS},
        "ia-none": law.PAPERS, "camouflage-base": law.PAPERS, "blur": law.COMPARED, "mask": law.COMPARED,
    }  # fmt: skip
    assert frame.label["ia-hed-strength-0.3"] == "strength 0.3" and frame.label["blur"] == "blur"
    assert frame.strongest["blur"] == "contrastive-face" and frame.strongest[SETTINGS[0].name].endswith("mixed")
    for row, name in enumerate(data.frame.anonymizer):
        assert frame.top1[name] == pytest.approx(rate(name), abs=0.02) == np.mean(data.hits[row])
        assert (data.hits[row] == (np.arange(40) < round(rate(name) * 40))).all(), "people in the same order"
        assert np.isfinite(data.agreements["depth"][row]).sum() == 12
    assert frame.hed["blur"] == pytest.approx(0.4, abs=0.02) and np.isnan(frame.hed["mask"])


def test_generators_are_fitted_and_other_systems_are_compared_with_the_curve(data) -> None:
    laws = law.fit(data, SMOKE.evaluate)
    assert set(laws) == {"hed", "canny", "depth"} and laws["hed"].settings == 7
    assert laws["hed"].slope == pytest.approx(10, rel=0.35) and laws["hed"].on_curve
    assert laws["hed"].chance == 1 / 200 and laws["hed"].highest == pytest.approx(0.8, abs=0.02)
    table = law.law_table(data, laws, SMOKE.evaluate)
    frame = table.frame.set_index("condition")
    assert frame.explained["hed"] > 0.9 > 0.5 > frame.explained["depth"] and table.frame.condition.iloc[-1] == "depth"
    assert frame.spearman["hed"] > 0.9 and frame.spearman_lo["hed"] < frame.spearman["hed"] <= frame.spearman_hi["hed"]
    assert (frame.others["hed"], frame.others_inside["hed"]) == (1, 0), "blur is off the curve, mask has no map"
    assert frame.unmapped.to_dict() == {"hed": 1, "canny": 1, "depth": 0}
    facts = law.facts(table.frame)
    assert facts["hed_verdict"] == "are consistent with one curve" and facts["hed_odds"] >= 1
    off = law.facts(table.frame[table.frame.condition == "hed"].assign(on_curve=False, scatter=np.log(2)))
    assert off["hed_verdict"] == "do not lie on one curve" and off["hed_odds"] == pytest.approx(2)
    assert np.isnan(off["canny_odds"]) and not isinstance(off["canny_verdict"], str), "an em dash"


def test_what_is_stored_is_read_again(data) -> None:
    laws = law.fit(data, SMOKE.evaluate)
    table = law.law_table(data, laws, SMOKE.evaluate)
    entries, smallest = table.entries, 1 / (1 + SMOKE.evaluate.draws)
    results = {key: {"value": number.value} for key, number in entries.items()}
    stored = stored_laws(results)
    assert stored == laws and list(stored)[-1] == "depth", "the best first"
    assert entries["law/hed/slope"].lo < entries["law/hed/slope"].value < entries["law/hed/slope"].hi
    assert entries["law/hed/spearman"].n == 7 and entries["law/hed/centre"].lo is None
    assert entries["law/hed/p"].lo == smallest == law.facts(table.frame)["depth_p_lo"] <= entries["law/depth/p"].value
    del results["law/hed/scatter"]
    assert "hed" not in stored_laws(results) and stored_laws({}) == {}


def test_a_condition_without_maps_has_no_law(data) -> None:
    blind = replace(data, frame=data.frame.assign(canny=np.nan))
    assert set(law.fit(blind, SMOKE.evaluate)) == {"hed", "depth"}


def test_the_curves_are_drawn_through_the_points_inside_their_bands(data) -> None:
    curves = law.curves(law.fit(data, SMOKE.evaluate), 0.95)
    for curve in curves.values():
        assert curve.shape == (4, law.CURVE) and (curve[2] < curve[1]).all() and (curve[1] < curve[3]).all()
    columns = {"y": "top1", "lo": "top1_lo", "hi": "top1_hi", "series": "kind", "text": "label"}
    panels = {"hed": "agreement of HED", "depth": "agreement of depth"}
    figure = maps.fitted_curves({"table": data.frame, **curves}, x=panels, **columns, chance=0.005, ylabel="top-1")
    for axes, column in zip(figure.axes, panels, strict=True):
        np.testing.assert_allclose(axes.lines[0].get_xdata(), curves[f"curve_{column}"][0])
        np.testing.assert_allclose(axes.lines[0].get_ydata(), curves[f"curve_{column}"][1])
        texts = {note.get_text() for note in axes.texts}
        assert {"blur", "strength 0.1", "chance"} <= texts and ("mask" in texts) == (column == "depth")
        assert axes.get_xlabel() == panels[column] and axes.get_ylim()[0] == 0 and axes.get_ylim()[1] <= 1.02
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [law.SETTINGS, law.PAPERS, law.COMPARED]
