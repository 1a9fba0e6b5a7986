"""Names iris flowers by their measurements."""

from array import array

from scaler import MEAN, SCALE
from vespid import ANY, BYTES, FP32, Graph, Request, Signature, Tensor

SPECIES = ("setosa", "versicolor", "virginica")


def describe() -> Signature:
    return (
        Signature()
        .input("measurements", FP32, [ANY, 4])
        .output("species", BYTES, [ANY])
        .output("probabilities", FP32, [ANY, 3])
    )


def predict(request: Request) -> dict[str, Tensor]:
    measurements = request["measurements"]
    x = array("f")
    for row in measurements.rows():
        x.extend((value - mean) / scale for value, mean, scale in zip(row, MEAN, SCALE))
    outputs = Graph("iris").compute({"X": Tensor(FP32, measurements.shape, x)})
    probabilities = outputs["probabilities"]
    species = [SPECIES[max(range(3), key=row.__getitem__)] for row in probabilities.rows()]
    return {"species": Tensor(BYTES, [len(species)], species), "probabilities": probabilities}
