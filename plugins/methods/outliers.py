"""Outlier detectors of vectors, from scikit-learn: one-class SVM, kernel density, isolation forest, local outliers."""

import math

from pydantic import Field

import harness


class Outliers(harness.Method):
    """What the detectors share: the vectors that they see."""

    class Params(harness.Params):
        on: str = Field("pca", description="pixels, pca, or the name of a method whose embedding is taken, as in isif")
        variance: float = Field(0.95, gt=0, le=1, description="pca: the share of the pixels' variance that is kept")
        limit: int = Field(6000, ge=2, description="at most so many training images: time and memory grow with squares")

    def fit(self, train, run):
        self.vectors = harness.kit.Vectors(train.images, run, self.params.on, self.params.variance, self.params.limit)
        self.detector = self.detect(self.vectors.train.numpy(), run)

    def score(self, images):
        import torch

        (name,) = self.scores
        return {name: torch.from_numpy(-self.detector.decision_function(self.vectors(images).numpy()))}


class OneClassSVM(Outliers):
    """One-class SVM (Schölkopf et al. 2001): the distance from the boundary around the normal images.

    RBF kernel of scikit-learn's width "scale", and nu = 0.1 as in Ruff et al. 2018; neither is searched over, since
    that would take anomalies.
    """

    name = "ocsvm"
    scores = ("Boundary",)

    class Params(Outliers.Params):
        nu: float = Field(0.1, gt=0, le=1, description="the share of normal images that may lie outside")

    def detect(self, vectors, run):
        from sklearn.svm import OneClassSVM

        return OneClassSVM(kernel="rbf", gamma="scale", nu=self.params.nu).fit(vectors)


class IsolationForest(Outliers):
    """Isolation forest (Liu et al. 2008): how few random cuts set an image apart."""

    name = "isolation-forest"
    scores = ("Isolation",)

    class Params(Outliers.Params):
        trees: int = Field(100, ge=1, description="how many trees are averaged")

    def detect(self, vectors, run):
        from sklearn.ensemble import IsolationForest

        return IsolationForest(n_estimators=self.params.trees, random_state=run.seed).fit(vectors)


class LocalOutlierFactor(Outliers):
    """Local outlier factor (Breunig et al. 2000): how much emptier it is around an image than around its neighbours."""

    name = "lof"
    scores = ("LOF",)

    class Params(Outliers.Params):
        neighbours: int = Field(20, ge=1, description="how many; no more than there are training images")

    def detect(self, vectors, run):
        from sklearn.neighbors import LocalOutlierFactor

        return LocalOutlierFactor(n_neighbors=self.params.neighbours, novelty=True).fit(vectors)


class KernelDensity(Outliers):
    """Kernel density estimate (Parzen 1962) with a Gaussian kernel: minus the log of the density.

    The bandwidth is the one of 20 from 2**-4.5 to 2**5 under which held-out normal images are likeliest, in five
    folds (Ruff et al. 2018).
    """

    name = "kde"
    scores = ("Density",)

    class Params(Outliers.Params):
        bandwidth: float = Field(0.0, ge=0, description="of the kernel; 0: chosen by the likelihood in five folds")

    def detect(self, vectors, run):
        self.bandwidth = self.params.bandwidth or best_bandwidth(self.vectors.train, run.seed)
        run.note(bandwidth=self.bandwidth)

    def score(self, images):
        import torch

        train, bandwidth = self.vectors.train, self.bandwidth
        parts = self.vectors(images).split(1000)
        return {"Density": -torch.cat([log_density(x, train, [bandwidth])[0] for x in parts])}


def best_bandwidth(vectors, seed, folds=5):
    """The bandwidth under which held-out vectors (N, D) are likeliest."""
    import torch

    candidates = torch.logspace(-4.5, 5, 20, base=2).tolist()
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
    likelihood = torch.zeros(len(candidates), dtype=torch.float64)
    for held_out in order.tensor_split(folds):
        rest = torch.ones(len(vectors), dtype=torch.bool)
        rest[held_out] = False
        likelihood += log_density(vectors[held_out], vectors[rest], candidates).sum(1)
    return candidates[likelihood.argmax()]


def log_density(x, train, bandwidths):
    """(B, M) float64: the log density at x (M, D) of Gaussian kernels at train (N, D), for each bandwidth."""
    import torch

    squares = torch.cdist(x, train, compute_mode="donot_use_mm_for_euclid_dist").square()
    dimensions = train.shape[1]
    return torch.stack(
        [
            (squares / (-2 * h**2)).logsumexp(1)
            - math.log(len(train))
            - dimensions * math.log(h * math.sqrt(2 * math.pi))
            for h in bandwidths
        ]
    )


@harness.hookimpl
def register_methods(register):
    register(OneClassSVM)
    register(KernelDensity)
    register(IsolationForest)
    register(LocalOutlierFactor)
