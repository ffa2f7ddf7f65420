"""MaxLogit: how little there is of the likeliest class."""

import harness


def max_logit(logits):
    """Minus the largest logit (Hendrycks et al. 2022, "Scaling OOD Detection for Real-World Settings")."""
    return -logits.amax(1)


@harness.hookimpl
def register_scores(register):
    register("MaxLogit", max_logit)
