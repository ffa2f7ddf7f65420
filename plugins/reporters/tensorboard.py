"""TensorBoard: losses and AUROCs as curves, for `tensorboard --logdir results/tensorboard`."""

import harness


class TensorBoard(harness.Reporter):
    """Loss by epoch and the AUROCs of each fit, in the results folder under tensorboard/ (extra: tensorboard)."""

    name = "tensorboard"

    def __init__(self, results):
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise harness.HarnessError(
                "--reporter tensorboard: not installed; `uv sync --extra tensorboard` or `uv pip install tensorboard`"
            ) from None
        self.folder, self.writers = results / "tensorboard", {}

    def epoch(self, fit, epoch, epochs, loss):
        self._writer(fit).add_scalar("loss", loss, epoch)

    def evaluated(self, evaluation, record):
        case = f"{evaluation.protocol}/{evaluation.case} {evaluation.anomaly_set}"
        for score, metrics in record.scores.items():
            self._writer(evaluation.fit).add_scalar(f"AUROC {score}/{case}", metrics.auroc)

    def fit_finished(self, fit):
        if fit.id in self.writers:
            self.writers.pop(fit.id).close()

    def end(self):
        for writer in self.writers.values():
            writer.close()

    def _writer(self, fit):
        from torch.utils.tensorboard import SummaryWriter

        if fit.id not in self.writers:
            self.writers[fit.id] = SummaryWriter(str(self.folder / f"{fit.method}-s{fit.seed}-{fit.id[:8]}"))
        return self.writers[fit.id]


@harness.hookimpl
def register_reporters(register):
    register(TensorBoard)
