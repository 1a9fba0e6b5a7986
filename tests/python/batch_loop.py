# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "onnxruntime==1.32.0", "pyarrow==26.0.1", "tokenizers==0.23.3"]
# ///
"""What a job is compared with: a loop over batches of 1,024 rows with pyarrow and onnxruntime, as people write it.

    batch_loop.py iris GRAPH INPUT.parquet OUTPUT.parquet [THREADS]
    batch_loop.py embed GRAPH INPUT.jsonl OUTPUT.jsonl [THREADS]       wants tokenizers, and vocab.txt beside the graph
    batch_loop.py iris-graph GRAPH ROWS [THREADS]        only the graph, on rows that are there: its ceiling
    batch_loop.py embed-graph GRAPH INPUT.jsonl [THREADS]       the same on tokens that are there

Prints rows and seconds as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

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


def iris_graph(path: str, rows: str, threads: int = 0) -> tuple[int, float]:
    run = session(path, threads)
    x = numpy.random.default_rng(1).standard_normal((ROWS, 4), dtype=numpy.float32)
    began = time.perf_counter()
    for _ in range(int(rows) // ROWS):
        run.run(["probabilities"], {"X": x})
    return int(rows) // ROWS * ROWS, time.perf_counter() - began


def batches_of(source: str):
    with open(source, encoding="utf-8") as file:
        while rows := [json.loads(line) for _, line in zip(range(ROWS), file)]:
            yield rows


def tokenizer(graph: str):
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(str(Path(graph).parent / "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    return tokenizer


def tokens(tokenizer, rows: list[dict], names: list[str]) -> dict[str, numpy.ndarray]:
    encoded = tokenizer.encode_batch([row["text"] for row in rows])
    inputs = {
        "input_ids": numpy.array([one.ids for one in encoded], dtype=numpy.int64),
        "attention_mask": numpy.array([one.attention_mask for one in encoded], dtype=numpy.int64),
        "token_type_ids": numpy.array([one.type_ids for one in encoded], dtype=numpy.int64),
    }
    return {name: inputs[name] for name in names}


def embed(graph: str, source: str, target: str, threads: int = 0) -> int:
    run, cut, count = session(graph, threads), tokenizer(graph), 0
    names = [one.name for one in run.get_inputs()]
    with open(target, "w", encoding="utf-8") as file:
        for rows in batches_of(source):
            inputs = tokens(cut, rows, names)
            states = run.run(None, inputs)[0]
            mask = inputs["attention_mask"][:, :, None].astype(numpy.float32)
            means = (states * mask).sum(axis=1) / mask.sum(axis=1)
            embeddings = means / numpy.linalg.norm(means, axis=1, keepdims=True)
            for row, embedding in zip(rows, embeddings.tolist(), strict=True):
                file.write(json.dumps(row | {"embedding": embedding}) + "\n")
            count += len(rows)
    return count


def embed_graph(graph: str, source: str, threads: int = 0) -> tuple[int, float]:
    run, cut = session(graph, threads), tokenizer(graph)
    names = [one.name for one in run.get_inputs()]
    there = [tokens(cut, rows, names) for rows in batches_of(source)]
    began = time.perf_counter()
    for inputs in there:
        run.run(None, inputs)
    return sum(len(inputs["input_ids"]) for inputs in there), time.perf_counter() - began


# What there is, and how many arguments come before the threads.
KINDS = {"iris": (iris, 3), "embed": (embed, 3), "iris-graph": (iris_graph, 2), "embed-graph": (embed_graph, 2)}


def main(what: str, *arguments: str) -> None:
    kind, fixed = KINDS[what]
    threads = int(arguments[fixed]) if len(arguments) > fixed else 0
    began = time.perf_counter()
    done = kind(*arguments[:fixed], threads)
    # Of a ceiling what was measured is the graph alone.
    rows, seconds = done if isinstance(done, tuple) else (done, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_kib": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
