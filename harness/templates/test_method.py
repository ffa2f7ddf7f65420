"""The contract of `my-method`, and what is meant by its score. Run it with `pytest`."""

from pathlib import Path

import torch

from harness import testing

FILE = Path(__file__).parent / "my-method.py"


@testing.contract(FILE)
def test_contract(check):
    check()


# What follows is true of the distance to the mean image alone: put what your own score should do in its place.
def test_the_mean_image_itself_has_distance_0_and_every_other_one_more():
    image = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    method = testing.fitted(FILE, image.expand(5, -1, -1, -1))
    brighter = image + 10
    assert method.score(image)["Distance"].tolist() == [0]
    assert method.score(brighter)["Distance"].tolist() == [10 * 8]  # the root of 64 squares of 10
