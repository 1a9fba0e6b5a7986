"""What a job is compared with: a loop over batches of 1,024 rows with pyarrow and onnxruntime, as people write it.

    batch_loop.py iris GRAPH INPUT.parquet OUTPUT.parquet [THREADS]
    batch_loop.py graph GRAPH ROWS [THREADS]      only the graph, on rows that are there: its ceiling

Prints rows and seconds as JSON.
"""

import json
import sys
import time

import numpy
import onnxruntime
import pyarrow
import pyarrow.parquet

ROWS = 1024
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
KEPT = ["id", "place"]
# Those of plugins/iris/src/scaler.rs.
MEAN = numpy.array([5.890476, 3.0695238, 3.8028572, 1.2066667], dtype=numpy.float32)
SCALE = numpy.array([0.8569629, 0.44553313, 1.8107855, 0.7787984], dtype=numpy.float32)
SPECIES = numpy.array(["setosa", "versicolor", "virginica"])


def session(graph: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def iris(graph: str, source: str, target: str, threads: int = 0) -> int:
    run, count, writer = session(graph, threads), 0, None
    for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=ROWS, columns=COLUMNS + KEPT):
        x = numpy.stack([batch.column(name).to_numpy() for name in COLUMNS], axis=1)
        [probabilities] = run.run(["probabilities"], {"X": (x - MEAN) / SCALE})
        species = SPECIES[probabilities.argmax(axis=1)]
        lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(probabilities.reshape(-1)), 3)
        columns = {name: batch.column(name) for name in KEPT} | {"species": species, "probabilities": lists}
        table = pyarrow.table(columns)
        writer = writer or pyarrow.parquet.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table)
        count += batch.num_rows
    if writer:
        writer.close()
    return count


def graph(path: str, rows: str, threads: int = 0) -> int:
    run = session(path, threads)
    x = numpy.random.default_rng(1).standard_normal((ROWS, 4), dtype=numpy.float32)
    for _ in range(int(rows) // ROWS):
        run.run(["probabilities"], {"X": x})
    return int(rows) // ROWS * ROWS


def main(what: str, *arguments: str) -> None:
    fixed = 3 if what == "iris" else 2
    threads = int(arguments[fixed]) if len(arguments) > fixed else 0
    began = time.perf_counter()
    rows = {"iris": iris, "graph": graph}[what](*arguments[:fixed], threads)
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
