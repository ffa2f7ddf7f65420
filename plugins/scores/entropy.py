"""Entropy: how undecided a classifier is."""

import harness


def entropy(logits):
    """Entropy of the softmax probabilities, in nats (Shannon 1948; as a detection score in Hendrycks & Gimpel 2017)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


@harness.hookimpl
def register_scores(register):
    register("Entropy", entropy)
