"""The paper's proposal: a classifier of the sub-clusters of normal data, scored by its confidence."""

import re

from pydantic import Field, field_validator

import harness

KMEANS = re.compile(r"kmeans:(\d+)(?::([a-z0-9_-]+))?")


class SubCluster(harness.Method):
    """Classifier of the normal sub-clusters (Lee & Lee 2020, section 2), scored by MAX and ODIN.

    An image that belongs to none of the sub-clusters is classified with less confidence. The sub-clusters are those of
    the labels or, without labels, those that k-means finds among the images' pixels or among the embeddings of another
    method, which is trained first, on the same images and by the same recipe.
    """

    name = "subcluster"
    scores = ("MAX", "ODIN")
    uses_labels = True
    scoring = ("temperature", "epsilon")

    class Params(harness.Params):
        clusters: str = Field(
            "labels",
            description="labels, which the protocol must show; kmeans:K, of pixels; or kmeans:K:METHOD, of embeddings",
        )
        temperature: float = Field(1000.0, gt=0, description="ODIN: divides the logits")
        epsilon: float = Field(0.0014, ge=0, description="ODIN: length of the step, in pixel units of [0, 1]")

        @field_validator("clusters")
        @classmethod
        def _well_formed(cls, text):
            match = KMEANS.fullmatch(text)
            if text != "labels" and not (match and int(match[1]) >= 2):
                raise ValueError(f"{text!r}: write labels, kmeans:K or kmeans:K:METHOD, with K of at least 2")
            return text

        @property
        def kmeans(self):
            """The number of clusters to find, and the method that embeds (None: pixels); None where labels are used."""
            match = KMEANS.fullmatch(self.clusters)
            return (int(match[1]), match[2]) if match else None

    @classmethod
    def skip(cls, n_clusters, params):
        if params.kmeans:
            return None
        if n_clusters is None:
            return "labels are withheld"
        return "needs at least two sub-clusters" if n_clusters < 2 else None

    def build(self, task, run):
        self.run = run
        outputs = task.n_clusters
        if self.params.kmeans:
            outputs, _ = self.params.kmeans
            self.predict = None  # what it would predict is not the sub-cluster that the harness knows
        self.network = harness.kit.backbone(task, run, outputs=outputs)

    def fit(self, train, run):
        kit = harness.kit
        labels = (self._found(train, run) if self.params.kmeans else train.labels).to(run.device)
        kit.train_network(
            self.network, train.images, lambda x, index: kit.cross_entropy(self.network(x), labels[index]), run
        )

    def _found(self, train, run):
        """(N,) int64: the clusters that k-means finds; the labels of `train` are not looked at."""
        k, embedder = self.params.kmeans
        if embedder:
            other = run.fitted(embedder, train.images)
            if not hasattr(other, "embed"):
                raise harness.HarnessError(f"subcluster.clusters: the method {embedder!r} has no embed(); try isif")
            vectors = other.embed(train.images)
        else:
            vectors = train.images.flatten(1).float() / 255
        labels, _ = harness.kit.kmeans(vectors, k, run.seed)
        run.note(smallest_cluster=labels.bincount(minlength=k).min())
        return labels

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
