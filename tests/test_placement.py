"""A pipeline is put into the memory that is free: the numbers are those of the published models."""

import pytest

from anonlib.diffusion import placement
from anonlib.diffusion.placement import Need, Placement, placed
from anonlib.errors import AnonlibError

GB = 1e9


def stable_diffusion(size: int) -> Need:
    """Stable Diffusion 1.5 with two ControlNets in half precision."""
    vae = placement.image_bytes(size, 128, placement.VAE_VALUES, 2)
    unet = placement.image_bytes(size, 320, placement.UNET_VALUES, 2, factor=8, copies=2)
    return Need(0.25 * GB, 0.17 * GB, 1.72 * GB + 2 * 0.72 * GB, vae, unet)


def test_a_large_card_takes_the_batch_as_it_is():
    assert placed(78 * GB, stable_diffusion(512), 16) == Placement(16)


def test_a_card_of_12_gb_paints_768_px_without_turns():
    found = placed(11.5 * GB, stable_diffusion(768), 16)
    assert found.batch >= 4 and found.sliced and not found.in_turns


def test_compromises_come_in_the_order_of_their_price():
    need, last = stable_diffusion(768), Placement(16)
    price = {}
    for tenths in range(800, 20, -1):
        try:
            one = placed(tenths * GB / 10, need, 16)
        except AnonlibError:
            break
        assert placement.taken(need, one) <= tenths * GB / 10, "what is chosen fits"
        assert (one.in_turns, one.batch <= last.batch or one.in_turns != last.in_turns) >= (last.in_turns, True)
        price.setdefault((one.sliced, one.in_turns), tenths)
        last = one
    assert list(price) == [(False, False), (True, False), (True, True)]
    assert last == Placement(1, True, True)


def test_too_little_memory_is_one_line_that_says_what_to_do():
    with pytest.raises(
        AnonlibError, match="takes [0-9.]+ GB of GPU memory and 2.0 GB are free.*CUDA_VISIBLE_DEVICES=-1"
    ):
        placed(2 * GB, stable_diffusion(768), 16)
