"""What the stages compute with: a linear classifier in numpy, and how it is trained and judged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SPECIES = ("Adelie", "Chinstrap", "Gentoo")
MEASURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Measures as float (n, 4), and species as int (n,)."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(row[name]) for name in MEASURES] for row in rows])
    return x, np.array([SPECIES.index(row["species"]) for row in rows])


def start(x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A model that knows the scale of its data and nothing else."""
    return {
        "mean": x.mean(axis=0),
        "scale": x.std(axis=0),
        "weights": rng.normal(0, 1, (len(MEASURES) + 1, len(SPECIES))),
    }


def probabilities(model: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Of each species, float (n, 3)."""
    scores = np.exp(_inputs(model, x) @ model["weights"])
    return scores / scores.sum(axis=1, keepdims=True)


def descend(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, rate: float) -> None:
    """One step of gradient descent on a batch."""
    error = probabilities(model, x)
    error[np.arange(len(y)), y] -= 1
    model["weights"] -= rate * _inputs(model, x).T @ error / len(y)


def judge(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy, and mean cross entropy."""
    found = probabilities(model, x)
    loss = -np.log(found[np.arange(len(y)), y]).mean()
    return {"accuracy": float((found.argmax(axis=1) == y).mean()), "loss": float(loss)}


def _inputs(model: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.column_stack([(x - model["mean"]) / model["scale"], np.ones(len(x))])
