"""The injury classifier on one page: python examples/classify_minimal.py STORE LABELS.csv [START [EPOCHS [BACKBONE]]].

What `voco2d finetune` does on one fold, without its resume, augmentation, choice of the epoch and calibration. START is
`random` or a checkpoint that `voco2d.load_backbone` reads. Every fourth patient is held out and scored at the end. A
START that has seen these patients makes that score too good: `voco2d finetune` refuses it, this page doesn't.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from voco2d import VolumeStore, load_backbone
from voco2d.data.cohort import class_indices, join_labels, read_labels
from voco2d.evaluation.evaluate import evaluate
from voco2d.losses.injury import InjuryLoss, InjuryLossArgs
from voco2d.models.classifier import Classifier, ClassifierArgs, class_probabilities
from voco2d.preprocessing.readout import ReadoutArgs, read_channels
from voco2d.targets import CLASS_COLUMNS

BATCH = 4

given = sys.argv[1:]
path, table, start, epochs, backbone_name = given + ["", "", "random", "10", "test_efficientnet"][len(given) :]
store = VolumeStore(path)
depth, height, width = store.preprocess_args.size
readout = ReadoutArgs(slices=min(24, depth), crop=min(192, height, width))
chance = np.random.default_rng(0)
torch.manual_seed(0)

# who is learnt from: whole patients are held out, and a patient's series share its labels
cohort = join_labels(store.index, read_labels(Path(table)))
series = cohort.series
rows_of_labels = pd.Index(cohort.labels["patient_id"]).get_indexer(pd.Index(series["patient_id"]))
labels = {name: torch.from_numpy(grades[rows_of_labels]) for name, grades in class_indices(cohort.labels).items()}
patients = sorted(set(series["patient_id"]))
held_out = series["patient_id"].isin(patients[::4]).to_numpy()
train = np.flatnonzero(~held_out)

# a backbone a slice, an LSTM along the slices, a head a target
model = Classifier(ClassifierArgs(backbone=backbone_name, hidden=64))
if start != "random":
    pretrained = load_backbone(start, backbone_name)
    model.backbone.load_state_dict(pretrained.state_dict())
loss_of = InjuryLoss(InjuryLossArgs())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)


def batch_of(rows: np.ndarray) -> torch.Tensor:
    """Return (B, S, C, crop, crop) windowed slices of some series."""
    positions = series["position"].to_numpy()[rows]
    return torch.stack([torch.from_numpy(read_channels(store[int(place)], readout)) for place in positions])


for epoch in range(int(epochs)):
    model.train()
    order, total = chance.permutation(train), 0.0
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        loss = loss_of(model(batch_of(rows)), {name: grades[rows] for name, grades in labels.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    print(f"epoch {epoch + 1}: loss {total / len(train):.3f}", flush=True)

model.eval()
with torch.no_grad():
    graded = [class_probabilities(model(batch_of(np.array([row])))) for row in np.flatnonzero(held_out)]
predictions = pd.DataFrame(torch.cat(graded).numpy(), columns=list(CLASS_COLUMNS))
predictions.insert(0, "patient_id", series["patient_id"].to_numpy()[held_out])
scores = evaluate(predictions, cohort.labels)  # a patient counts once: the maximum over the series
print({name: round(value, 3) for name, value in scores["rsna"].items()})
