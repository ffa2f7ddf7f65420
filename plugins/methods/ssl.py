"""SSL: a network that tells by how much a normal image was shifted and turned."""

from typing import Literal

from pydantic import Field

import harness

# The output's columns: horizontal shift, vertical shift, rotation.
HEADS = (slice(0, 3), slice(3, 6), slice(6, 10))


class SSL(harness.Method):
    """Prediction of translation and rotation (Hendrycks et al. 2019, the one-class system), scored over all 36 views.

    KL is the score that Lee & Lee name: the divergence of each head's prediction from the uniform distribution;
    TrueProb is the official one: the probability of the transformation that was applied. No label is used.
    """

    name = "ssl"
    scores = ("KL", "TrueProb")
    scoring = ("views",)

    class Params(harness.Params):
        shift: int = Field(0, ge=0, description="pixels of a shift; 0: a quarter of the image's side")
        border: Literal["auto", "zero", "reflect"] = Field(
            "auto",
            description="what a shift uncovers; auto: zero for grey images, whose strokes would be mirrored back",
        )
        views: Literal["all", "upright"] = Field("all", description="score all 36 views, or the untouched image alone")

    def build(self, task, run):
        self.run = run
        self.network = harness.kit.backbone(task, run, outputs=10)
        self.shift = self.params.shift or round(task.height * run.recipe.crop) // 4
        self.border = self.params.border
        if self.border == "auto":
            self.border = "zero" if task.channels == 1 else "reflect"

    def fit(self, train, run):
        import torch

        kit = harness.kit

        def loss(images, index):
            # Each of the four rotations of an image carries its own shift; the shift comes first, so that its
            # label speaks of the unturned image.
            quarters, answers = [], []
            for turn in range(4):
                across, down = torch.randint(3, (2, len(images)), device=images.device)
                quarters.append(self._view(images, across, down, turn))
                answers.append(torch.stack([across, down, torch.full_like(across, turn)]))
            logits, answers = self.network(torch.cat(quarters)), torch.cat(answers, 1)
            each = [kit.cross_entropy(logits[:, head], a) for head, a in zip(HEADS, answers, strict=True)]
            return tuple(torch.stack(values).mean() for values in zip(*each, strict=True))

        kit.train_network(self.network, train.images, loss, run)

    def score(self, images):
        import torch

        kit = harness.kit
        every = [(across, down, turn) for across in range(3) for down in range(3) for turn in range(4)]
        wanted = every if self.params.views == "all" else [(1, 1, 0)]

        def score(x):
            total = {"KL": 0, "TrueProb": 0}
            for answer in wanted:
                across, down = (torch.full((len(x),), place, device=x.device) for place in answer[:2])
                logits = self.network(self._view(x, across, down, answer[2]))
                for head, truth in zip(HEADS, answer, strict=True):
                    total["KL"] -= kit.kl_from_uniform(logits[:, head]) / len(wanted)
                    total["TrueProb"] -= kit.true_probability(logits[:, head], truth) / len(wanted)
            return total

        return kit.in_batches(images, self.run, score)

    def _view(self, images, across, down, turn):
        """Shift by (across - 1, down - 1) steps, then turn by so many quarters."""
        shifted = harness.kit.translate(images, (across - 1) * self.shift, (down - 1) * self.shift, self.border)
        return harness.kit.rotate(shifted, turn)


@harness.hookimpl
def register_methods(register):
    register(SSL)
