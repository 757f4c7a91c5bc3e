"""Penguins: download, clean, split, train, evaluate, compare; training that goes on, and five folds.

nixbridge realize docs/examples/ml/stages.py
"""

import csv
import json
from pathlib import Path

from bridge import best, each, fetchurl, out, stage

# The copy beside this file serves without a network; which mirror gave the file has no part in its store path.
penguins = fetchurl(
    [
        f"file://{Path(__file__).with_name('penguins.csv')}",
        "https://raw.githubusercontent.com/mcnakhaee/palmerpenguins/24ab5d7ce1ed9afb54f7a304080da112f44542c8"
        "/palmerpenguins/data/penguins.csv",
    ],
    hash="sha256:f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93",
)


@stage(deterministic=True)
def clean(raw=penguins, rows=out("penguins.csv")):
    """Leave out penguins that were not measured."""
    from learning import MEASURES

    with raw.open() as file:
        kept = [row for row in csv.DictReader(file) if all(row[name] != "NA" for name in MEASURES)]
    write(rows, kept)


@stage(deterministic=True)
def split(data=clean.rows, fold=0, folds=5, seed=1, train=out("train.csv"), test=out("test.csv")):
    """Shuffle, and keep one part of `folds` for testing."""
    import random

    with data.open() as file:
        rows = list(csv.DictReader(file))
    random.Random(seed).shuffle(rows)
    write(test, rows[fold::folds])
    write(train, [row for number, row in enumerate(rows) if number % folds != fold])


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@stage(realizations=3, match=best("loss", lowest=True))
def train(run, data=split.train, epochs=20, rate=0.1, batch=16, model=out("model.npz")):
    """From a random start, or on from the realization that this one is given as run.previous.

    What was done in each epoch is kept as a checkpoint: a run that is interrupted goes on from its last epoch.
    """
    import numpy as np
    from learning import descend, judge, read, start

    x, y = read(data)
    rng = np.random.default_rng(run.seed)
    saved = run.checkpoint() / "model.npz"
    if saved.exists():
        state = dict(np.load(saved))
    elif run.previous is not None:
        state = {**np.load(run.previous.path / "model.npz"), "epoch": 0}
    else:
        state = {**start(x, rng), "epoch": 0}
    trained = run.previous.metrics["epochs"] if run.previous is not None else 0
    while state["epoch"] < epochs:
        for part in np.array_split(rng.permutation(len(x)), len(x) // batch):
            descend(state, x[part], y[part], rate)
        state["epoch"] = state["epoch"] + 1
        # A file is there as a whole or not at all, also when the run is killed here.
        np.savez(saved.with_suffix(".new.npz"), **state)
        saved.with_suffix(".new.npz").replace(saved)
    del state["epoch"]
    np.savez(model, **state)
    run.log(**judge(state, x, y), epochs=trained + epochs)


@stage(deterministic=True)
def evaluate(run, model=train.model, data=split.test, result=out("result.json")):
    import numpy as np
    from learning import judge, read

    found = judge(np.load(model), *read(data))
    result.write_text(json.dumps(found))
    run.log(**found)


# Rates against each other, by what the test rows say of the best model of each.
RATES = [0.01, 0.03, 0.1, 0.3]
sweep = [evaluate(model=train(rate=rate).model).result for rate in RATES]


@stage(deterministic=True)
def compare(results=sweep, rates=RATES, table=out("table.csv")):
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rate", "accuracy", "loss"])
        for rate, path in zip(rates, results, strict=True):
            found = json.loads(path.read_text())
            writer.writerow([rate, f"{found['accuracy']:.3f}", f"{found['loss']:.3f}"])


# Five folds: each fifth of the rows is tested once, by a model that was trained on the others.
FOLDS = 5
folded = []
for fold in range(FOLDS):
    part = split(fold=fold, folds=FOLDS)
    folded.append(evaluate(model=train(data=part.train).model, data=part.test).result)


@stage(deterministic=True)
def cross_validation(run, results=folded, summary=out("summary.json")):
    from statistics import mean, stdev

    accuracies = [json.loads(path.read_text())["accuracy"] for path in results]
    found = {"accuracy": mean(accuracies), "deviation": stdev(accuracies), "folds": len(accuracies)}
    summary.write_text(json.dumps(found))
    run.log(**found)


# Every start, not only the best: how much luck there is in one.
luck = evaluate(model=each(train.options(match=best("loss", n=3, lowest=True)).model))


@stage(deterministic=True)
def starts(results=luck.result, table=out("starts.json")):
    table.write_text(json.dumps([json.loads(path.read_text()) for path in results]))
