// Names iris flowers by their measurements.

import { ANY, Graph, Signature, Tensor } from "vespid";
import { MEAN, SCALE } from "./scaler.js";

const SPECIES = ["setosa", "versicolor", "virginica"];

export function describe() {
  return new Signature()
    .input("measurements", "FP32", [ANY, 4])
    .output("species", "BYTES", [ANY])
    .output("probabilities", "FP32", [ANY, 3]);
}

export function predict({ inputs: { measurements } }) {
  const x = measurements.values().map((value, place) => (value - MEAN[place % 4]) / SCALE[place % 4]);
  const { probabilities } = new Graph("iris").compute({ X: new Tensor("FP32", measurements.shape, x) });
  const species = [...probabilities.rows()].map((row) => SPECIES[row.indexOf(Math.max(...row))]);
  return { species: new Tensor("BYTES", [species.length], species), probabilities };
}
