"""Energy: how little of all classes there is in an image."""

import harness


def energy(logits):
    """Minus the log of the sum of exp over the logits (Liu et al. 2020, "Energy-based Out-of-distribution Detection").

    At temperature 1, as in the paper's experiments.
    """
    return -logits.logsumexp(1)


@harness.hookimpl
def register_scores(register):
    register("Energy", energy)
