"""Metrics in words: their titles, what they are, and how their values are written."""

from __future__ import annotations

TITLES = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "auc": "AUC",
    "log_loss": "Log loss",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}
MEANINGS = {
    "accuracy": "Share of answers that were right.",
    "f1": "Harmonic mean of precision and recall: of the second class, or the mean over classes when there are more than two.",
    "precision": "Of those predicted positive, the share that was.",
    "recall": "Of those that were positive, the share that was predicted so.",
    "auc": "Chance that a positive row has a higher score than a negative one.",
    "log_loss": "Mean of -ln(probability given to what happened): punishes false certainty.",
    "mae": "Mean absolute error, in the target's unit.",
    "rmse": "Root of the mean squared error, in the target's unit.",
    "r2": "Share of the target's variance that the predictions explain.",
}


def title(name: str) -> str:
    return TITLES.get(name, name)


def lower(name: str) -> str:
    """The title inside a sentence: accuracy, but AUC."""
    found = title(name)
    return found if found.isupper() or found[0].islower() or found in ("R²", "F1") else found.lower()


def shown(name: str, value: float | None) -> str:
    """Scores between 0 and 1 with three decimals, quantities with four digits."""
    if value is None:
        return "–"
    if name in ("mae", "rmse") or name not in TITLES:
        return f"{value:,.4g}"
    return f"{value:.3f}"
