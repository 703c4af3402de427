"""Systems by criterion: where each stands is told by rank, in the direction that is better."""

import numpy as np
import pandas as pd

from anonlib.plotting import criteria
from anonlib.plotting.text import EM_DASH


def test_the_best_and_the_worst_of_a_column_stand_at_its_ends():
    values = np.array([0.1, 5.0, np.nan, 0.3])
    np.testing.assert_array_equal(criteria.standing(values, high=True), [0, 1, np.nan, 0.5])
    np.testing.assert_array_equal(criteria.standing(values, high=False), [1, 0, np.nan, 0.5])
    np.testing.assert_array_equal(criteria.standing(np.array([2.0, 2.0]), high=True), [0.5, 0.5])
    np.testing.assert_array_equal(criteria.standing(np.array([np.nan, 2.0]), high=True), [np.nan, 0.5])


def test_every_number_is_written_and_a_missing_one_is_an_em_dash():
    data = pd.DataFrame({"name": ["a", "b"], "found": [0.25, np.nan], "error": [1.0, 2.0]})
    columns = [["found", "people found", ".1%", "low"], ["error", "error", ".1f", "low"]]
    drawn = criteria.criteria(data, row="name", columns=columns)
    (axes,) = drawn.axes
    written = {tuple(np.floor(text.get_position()).astype(int)): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "25.0 %", (0, 1): EM_DASH, (1, 0): "1.0", (1, 1): "2.0"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["people found", "error"]
    (cells,) = axes.collections
    drawn.draw_without_rendering()
    colours = cells.get_facecolors().reshape(2, 2, 4)
    assert colours[1, 0, 3] == 0, "a missing value has no colour"
    assert (colours[0, 1] != colours[1, 1]).any()
