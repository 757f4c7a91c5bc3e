"""Handwritten digits, end to end: Nix for what is deterministic, Python for the training that is not.

nixbridge realize docs/examples/digits/stages.py:report
"""

from bridge import best, host, out, shell, source, stage

# The programs of the shell stages. With nixpkgs: flake("nixpkgs#busybox"). Without, this machine's static one.
busybox = host("busybox")

digits = source("digits.csv.gz")

# Deterministic: Nix builds it in its sandbox. Every fifth row is for testing.
clean = shell(
    """
    gunzip -c "$digits" | awk -F, -v out="$out" '
        NF != 65 { print "line " NR " has " NF " fields, not 65"; exit 1 }
        { print > (out "/" (NR % 5 == 0 ? "test" : "train") ".csv") }
    '
    wc -l "$out"/*.csv
    """,
    digits=digits,
    tools=[busybox],
    shell=busybox,
)


@stage(realizations=5, match=best("accuracy"))
def train(
    run,
    train_set=clean / "train.csv",
    test_set=clean / "test.csv",
    hidden=32,
    epochs=30,
    rate=0.1,
    model=out("model.npz"),
    confusion=out("confusion.csv"),
    metrics=out("metrics.csv"),
):
    """A network with one hidden layer, from a random start: each run is another true result."""
    import numpy as np

    rng = np.random.default_rng(run.seed)
    x, y = load(train_set)
    weights = [rng.normal(0, 0.1, (64, hidden)), rng.normal(0, 0.1, (hidden, 10))]
    for epoch in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), len(x) // 16):
            descend(weights, x[batch], y[batch], rate)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {loss(weights, x, y):.4f}")

    x, y = load(test_set)
    guessed = forward(weights, x)[1].argmax(axis=1)
    accuracy = (guessed == y).mean()
    np.savez(model, *weights)
    table = np.zeros((10, 10), dtype=int)
    np.add.at(table, (y, guessed), 1)
    np.savetxt(confusion, table, fmt="%d", delimiter=",")
    metrics.write_text(f"accuracy,{accuracy:.4f}\nloss,{loss(weights, x, y):.4f}\nseed,{run.seed}\n")
    run.log(accuracy=accuracy, loss=loss(weights, x, y))


def load(path):
    """Pixels from 0 to 1, and the digits that they show."""
    import numpy as np

    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1] / 16, rows[:, -1].astype(int)


def forward(weights, x):
    """The hidden layer and the probabilities of the ten digits."""
    import numpy as np

    hidden = np.tanh(x @ weights[0])
    scores = np.exp(hidden @ weights[1])
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def loss(weights, x, y):
    """Mean cross entropy."""
    import numpy as np

    return -np.log(forward(weights, x)[1][np.arange(len(y)), y]).mean()


def descend(weights, x, y, rate):
    """One step of gradient descent on a batch."""
    import numpy as np

    hidden, error = forward(weights, x)
    error[np.arange(len(y)), y] -= 1
    back = error @ weights[1].T * (1 - hidden**2)
    weights[1] -= rate * hidden.T @ error / len(y)
    weights[0] -= rate * x.T @ back / len(y)


# Deterministic again, and built by Nix from the realization that the matcher chose.
report = shell(
    r"""
    row() {
        awk -F, -v cell="$1" '{
            printf "<tr>"
            for (i = 1; i <= NF; i++) printf "<%s>%s</%s>", cell, $i, cell
            print "</tr>"
        }'
    }
    {
        echo '<!doctype html><meta charset="utf-8"><title>Digits: model card</title>'
        echo '<style>body{font:1rem/1.5 sans-serif;margin:3rem}td,th{padding:.2rem .6rem;text-align:right}</style>'
        echo '<h1>Digits: model card</h1>'
        echo "<p>Model: <code>$model</code><br>sha256: <code>$(sha256sum "$model" | cut -d' ' -f1)</code></p>"
        echo '<h2>Metrics</h2><table>'
        row td < "$metrics"
        echo '</table><h2>Confusion matrix</h2><p>Rows are the digits, columns what the model took them for.</p><table>'
        seq -s, 0 9 | row th
        row td < "$confusion"
        echo '</table>'
    } > "$page"
    """,
    model=train.model,
    metrics=train.metrics,
    confusion=train.confusion,
    page=out("model-card.html"),
    tools=[busybox],
    shell=busybox,
)
