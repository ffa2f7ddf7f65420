"""The contract of `my-dataset`, and what is known of it. Run it with `pytest`."""

from pathlib import Path

from harness import testing

FILE = Path(__file__).parent / "my-dataset.py"


@testing.contract(FILE)
def test_contract(check):
    check()


def test_there_are_as_many_images_of_each_class():
    images, labels = testing.dataset(FILE).load("test", ("ring", "disc"))
    assert images.shape == (60, 1, 16, 16)
    assert labels.bincount().tolist() == [30, 30]
