"""RotNet: a network that tells by how much a normal image was turned."""

from typing import Literal

from pydantic import Field

import harness


class RotNet(harness.Method):
    """Prediction of the rotation (Gidaris et al. 2018), scored by MAX and ODIN over the four rotations.

    All four rotations of an image are trained on in one batch. How the four views become one score is not in either
    paper: `aggregate` chooses.
    """

    name = "rotnet"
    scores = ("MAX", "ODIN")
    scoring = ("temperature", "epsilon", "aggregate")

    class Params(harness.Params):
        temperature: float = Field(1000.0, gt=0, description="ODIN: divides the logits")
        epsilon: float = Field(0.0014, ge=0, description="ODIN: length of the step, in pixel units of [0, 1]")
        aggregate: Literal["max", "true", "upright"] = Field(
            "max",
            description="max: mean over the rotations of the largest softmax value; true: of that of the rotation that "
            "was applied; upright: the unturned image alone",
        )

    def build(self, task, run):
        self.run = run
        self.network = harness.kit.backbone(task, run, outputs=4)

    def fit(self, train, run):
        kit = harness.kit

        def loss(images, index):
            views, turns = kit.four_rotations(images)
            return kit.cross_entropy(self.network(views), turns)

        kit.train_network(self.network, train.images, loss, run)

    def score(self, images):
        kit, params = harness.kit, self.params
        turns = (0,) if params.aggregate == "upright" else (0, 1, 2, 3)

        def normality(logits, turn):
            return kit.true_probability(logits, turn) if params.aggregate == "true" else logits.softmax(1).amax(1)

        def score(x):
            total = {"MAX": 0, "ODIN": 0}
            for turn in turns:
                view = kit.rotate(x, turn)
                moved = kit.odin_logits(self.network, view, params.temperature, params.epsilon)
                total["MAX"] -= normality(self.network(view).double(), turn) / len(turns)
                total["ODIN"] -= normality(moved, turn) / len(turns)
            return total

        return kit.in_batches(images, self.run, score)


@harness.hookimpl
def register_methods(register):
    register(RotNet)
