"""A data set for `harness`: one file, which may lie anywhere. Replace what it loads, and keep what it is made of.

harness check ./my-dataset.py
harness run --protocol ./my-dataset-protocol.toml --recipe ./my-dataset-recipe.toml --plugins ./my-dataset.py \
    --dataset my-dataset --method subcluster,rotnet
"""

from pydantic import Field

import harness

# Import torch and everything heavy inside the functions: then `harness list` and `harness plan` stay instant.

PER_CLASS = {"train": 60, "test": 30}


class MyDataset(harness.Dataset):
    """Noisy grey pictures of a disc, a ring, a cross or stripes."""  # `harness list datasets` shows the first line

    name = "my-dataset"  # as typed after --dataset
    classes = ("disc", "ring", "cross", "stripes")

    class Params(harness.Params):  # each with a default; a user writes --set my-dataset.noise=0.5
        noise: float = Field(0.2, ge=0, description="standard deviation, where black is 0 and white is 1")

    def revision(self):
        """Change this whenever the images change: numbers of two revisions never share a table."""
        return "1"

    def load(self, split, classes):
        """Images (N, C, H, W) uint8 of the classes, and labels (N,) int64: the place of each in `classes`.

        These are drawn. Read yours from `self.root`, the folder that --data names, and where they are not there:
        raise harness.DataMissing("my-dataset: put the pictures into <folder>").
        """
        import numpy as np
        import torch

        self.check_classes(classes)
        images, targets = [], []
        for target, name in enumerate(self.classes):
            # A generator of its own, so that the images are always the same, whatever was drawn before.
            rng = np.random.default_rng([target, split == "test"])
            for _ in range(PER_CLASS[split]):
                picture = _draw(name, rng) + rng.normal(scale=self.params.noise, size=(16, 16))
                images.append(np.uint8(picture.clip(0, 1) * 255))
                targets.append(target)
        return self.select(torch.from_numpy(np.stack(images))[:, None], torch.tensor(targets), classes)


def _draw(name, rng):
    """(16, 16) floats in [0, 1]: the figure, somewhere near the middle."""
    import numpy as np

    y, x = np.mgrid[:16, :16] - rng.integers(6, 11, size=(2, 1, 1))
    radius = np.hypot(x, y)
    figures = {
        "disc": radius < 5,
        "ring": (radius > 3) & (radius < 6),
        "cross": (abs(x) < 2) | (abs(y) < 2),
        "stripes": x % 4 < 2,
    }
    return figures[name] * 0.8


@harness.hookimpl
def register_datasets(register):
    register(MyDataset)
