"""Other settings of the compared systems, and k-Same's bound, on drawn people."""

from dataclasses import replace

import numpy as np
import pytest

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.faces.recognizers import embed, judge
from anonlib.paper.experiments import variants
from anonlib.paper.experiments.systems import Systems, recognizers
from tests.test_compared import people  # noqa: F401

FEW = {"compare.varied": 3, "compare.levels": 3, "compare.steps": 1, "evaluate.draws": 50}


@pytest.fixture(scope="module")
def averaged(people) -> Systems:  # noqa: F811
    """Two photos of each of thirty people through k-Same."""
    numbers = config.load("smoke", {"compare.probes": 2})
    rows = dataset.select_rows(people, numbers.compare)
    return Systems({}, dataset.anonymize(people, rows, ("ksame-2", "ksame-5"), numbers), rows)


def test_nobody_finds_more_than_the_bound_and_a_photo_that_escaped_passes_it(people, averaged):  # noqa: F811
    numbers = config.load("smoke").evaluate
    found = variants.bound(people, averaged, numbers).frame
    assert set(found.attacker) == set(recognizers()) and (found.people == 30).all(), (
        "one photo each, though two were made"
    )
    assert (found.top1 <= found.bound + 1e-9).all() and (found.top1 > 0.4 * found.bound).all()
    one = averaged.compared["ksame-5"]
    leaked = Systems({}, {"ksame-5": replace(one, images=people.images[one.source])}, averaged.rows)
    assert (variants.bound(people, leaked, numbers).frame.top1 > 0.9).all()


def test_settings_are_varied_one_at_a_time_on_the_same_photos(people, averaged):  # noqa: F811
    systems = replace(averaged, compared=averaged.compared | {"falco": averaged.compared["ksame-2"]})
    numbers = config.load("smoke", FEW | {"compare.varied_steps": [0, 6], "compare.varied_margins": [1.0]})
    varied = variants.vary(people, systems, numbers)
    names = ["falco, steps 0", "falco, steps 6", "falco, margin 1", "ksame-2", "ksame-5"]
    assert list(varied.compared) == names
    for one in varied.compared.values():
        np.testing.assert_array_equal(one.source, varied.rows)
    assert len(set(people.identity[varied.rows])) == 3
    found = variants.table(people, varied, numbers).frame.set_index("anonymizer")
    assert list(found.index) == names and (found.photos == 3).all() and (found.seconds > 0).all()
    one = varied.compared["falco, steps 6"]
    near = (embed(judge(), one.images) * embed(judge(), people.images[varied.rows])).sum(1).mean()
    assert found.cosine["falco, steps 6"] == pytest.approx(near, abs=1e-3)
    assert found.cosine["falco, steps 6"] < found.cosine["ksame-2"], "an average is near to those it is of"
    assert found.attribute_agreement.between(0, 1).all()
