import pytest

from anonlib.config import paths
from anonlib.config.errors import AnonlibError

REGISTERED = ("synthetic", "orl", "lfw")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("synthetic", "synthetic"),
        ("orl", "orl"),
        ("/photos/My Faces", "my-faces"),
        ("/photos/XL faces", "xl-faces"),
        ("../demo-2", "demo-2"),
        ("/photos/???", "folder"),
    ],
)
def test_a_data_set_has_a_short_name(dataset: str, name: str) -> None:
    assert paths.dataset_name(dataset, REGISTERED) == name


@pytest.mark.parametrize(
    ("dataset", "owner"),
    [(folder, "profile") for name in paths.profile_names() for folder in (name, f"/photos/{name}", f"./{name.upper()}")]
    + [(f"/photos/{name}", "registered data set") for name in REGISTERED]
    + [("/photos/data", "part of every run"), ("x/notebooks", "part of every run")]
    + [("/photos/demo-0123abcd", "profile")],
)
def test_a_folder_whose_results_would_mix_with_others_is_refused(dataset: str, owner: str) -> None:
    with pytest.raises(AnonlibError, match=f"{dataset}.*{owner}.*rename") as error:
        paths.dataset_name(dataset, REGISTERED)
    assert "\n" not in str(error.value)


def test_every_profile_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.FIGURES, "/figures")
    names = paths.profile_names()
    assert {"smoke", "demo", "full", "xl"} <= set(names)
    folders = {paths.output_folder(profile, data) for profile in names for data in REGISTERED}
    assert len(folders) == len(names) * len(REGISTERED)
