"""The paper's proposal: a classifier of the sub-clusters of normal data, scored by its confidence."""

from pydantic import Field

import harness


class SubCluster(harness.Method):
    """Classifier of the normal sub-clusters (Lee & Lee 2020, section 2), scored by MAX and ODIN.

    An image that belongs to none of the sub-clusters is classified with less confidence.
    """

    name = "subcluster"
    scores = ("MAX", "ODIN")
    uses_labels = True
    scoring = ("temperature", "epsilon")

    class Params(harness.Params):
        temperature: float = Field(1000.0, gt=0, description="ODIN: divides the logits")
        epsilon: float = Field(0.0014, ge=0, description="ODIN: length of the step, in pixel units of [0, 1]")

    @classmethod
    def skip(cls, n_clusters, params):
        if n_clusters is None:
            return "labels are withheld"
        return "needs at least two sub-clusters" if n_clusters < 2 else None

    def build(self, task, run):
        self.run = run
        self.network = harness.kit.backbone(task, run, outputs=task.n_clusters)

    def fit(self, train, run):
        labels = train.labels.to(run.device)
        kit = harness.kit
        kit.train_network(
            self.network, train.images, lambda x, index: kit.cross_entropy(self.network(x), labels[index]), run
        )

    def score(self, images):
        kit = harness.kit

        def score(x):
            odin = kit.odin(self.network, x, self.params.temperature, self.params.epsilon)
            return {"MAX": kit.max_softmax(self.network(x)), "ODIN": odin}

        return kit.in_batches(images, self.run, score)

    def predict(self, images):
        return harness.kit.in_batches(images, self.run, lambda x: {"cluster": self.network(x).argmax(1)})["cluster"]


@harness.hookimpl
def register_methods(register):
    register(SubCluster)
