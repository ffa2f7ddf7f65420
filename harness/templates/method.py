"""A method for `harness`: one file, which may lie anywhere. Replace what it does, and keep what it is made of.

harness check ./my-method.py
harness run --protocol test2 --method ./my-method.py,subcluster
"""

from typing import Literal

from pydantic import Field

import harness

# Import torch and everything heavy inside the functions: then `harness list` and `harness plan` stay instant.


class MyMethod(harness.Method):
    """Distance to the mean normal image."""  # the first line is what `harness list methods` shows

    name = "my-method"  # as typed after --method
    scores = ("Distance",)  # the detection scores that score() returns: each gets its own column
    scoring = ("norm",)  # the parameters that only score() may read: a change to them needs no new training

    class Params(harness.Params):  # each with a default; a user writes --set my-method.norm=l1
        norm: Literal["l1", "l2"] = Field("l2", description="sum of absolute differences, or root of sum of squares")

    def fit(self, train, run):
        """Learn from normal images alone: train.images is (N, C, H, W) uint8.

        train.labels is None, unless the class says `uses_labels = True` and the protocol shows the sub-clusters; then
        it is (N,) int64. Of `run`: run.device, run.seed, run.recipe.epochs and its like, run.note(loss=0.1) for the
        record. The random state is seeded already; draw from it, but do not set it.
        """
        self.mean = train.images.float().mean(0)  # attributes that are tensors, modules or numbers are kept on disk

    def score(self, images):
        """Score test images, (M, C, H, W) uint8: for each name in `scores`, (M,) floats; higher = more anomalous.

        The score of an image may not depend on which other images it comes with.
        """
        order = 1 if self.params.norm == "l1" else 2
        difference = images.float() - self.mean
        return {"Distance": difference.flatten(1).norm(p=order, dim=1)}

    # To train a network by the recipe:     self.network = harness.kit.backbone(task, run, outputs=4)   in build(), and
    #                                       harness.kit.train_network(self.network, train.images, loss, run)   in fit();
    # plugins/methods/rotnet.py does so in 40 lines.
    # Where a method does not apply:        @classmethod
    #                                       def skip(cls, n_clusters, params): return the reason, or None


@harness.hookimpl
def register_methods(register):
    register(MyMethod)
