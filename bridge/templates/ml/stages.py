"""A line is fitted to noisy points by gradient descent, five times; the best fit is reported."""

import json
import random

from bridge import best, host, out, shell, stage

busybox = host("busybox")  # of this machine; flake("nixpkgs#busybox") is the same everywhere


@stage(deterministic=True)
def points(count=200, noise=0.3, data=out("points.json")):
    rng = random.Random(1)
    xs = [rng.uniform(-1, 1) for _ in range(count)]
    data.write_text(json.dumps([[x, 3 * x + 0.5 + rng.gauss(0, noise)] for x in xs]))


@stage(realizations=5, match=best("loss", lowest=True))
def train(run, data=points / "points.json", rate=0.1, steps=400, model=out("model.json")):
    rng = random.Random(run.seed)
    pairs = json.loads(data.read_text())
    slope, offset = rng.gauss(0, 1), rng.gauss(0, 1)
    for _ in range(steps):
        x, y = rng.choice(pairs)
        error = slope * x + offset - y
        slope, offset = slope - rate * error * x, offset - rate * error
    model.write_text(json.dumps({"slope": slope, "offset": offset}))
    run.log(loss=sum((slope * x + offset - y) ** 2 for x, y in pairs) / len(pairs))


report = shell(
    '{ echo "the best of five:"; cat $model; echo; sha256sum < $model; } > $page',
    model=train.model,
    page=out("report.txt"),
    tools=[busybox],
    shell=busybox,
)
