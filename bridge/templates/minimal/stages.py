"""A stage with many true results, and a report on the one that is chosen."""

import random

from bridge import best, host, out, shell, stage

busybox = host("busybox")  # of this machine; flake("nixpkgs#busybox") is the same everywhere


@stage(realizations=3, match=best("score"))
def train(run, scale=2.0, model=out("model.txt")):
    score = random.Random(run.seed).random() * scale
    model.write_text(f"score {score}\n")
    run.log(score=score)


report = shell(
    '{ echo "the best of three:"; cat $model; } > $page',
    model=train.model,
    page=out("report.txt"),
    tools=[busybox],
    shell=busybox,
)
