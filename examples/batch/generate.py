"""Writes flowers as Parquet: generate.py FILE [ROWS]. Wants pyarrow and numpy.

The rows are those of Fisher's irises in kind: four measurements in centimetres, an id, and the place where each was found.
"""

import sys

import numpy
import pyarrow
import pyarrow.parquet

MEANS = numpy.array([5.84, 3.06, 3.76, 1.20], dtype=numpy.float32)
DEVIATIONS = numpy.array([0.83, 0.44, 1.77, 0.76], dtype=numpy.float32)
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROW_GROUP = 500_000


def groups(rows: int):
    random = numpy.random.default_rng(1)
    for first in range(0, rows, ROW_GROUP):
        count = min(ROW_GROUP, rows - first)
        values = random.standard_normal((count, 4), dtype=numpy.float32) * DEVIATIONS + MEANS
        values = numpy.clip(values, 0.1, 10.0).astype(numpy.float32)
        columns = {"id": numpy.arange(first, first + count, dtype=numpy.int64)}
        columns |= {name: values[:, index] for index, name in enumerate(COLUMNS)}
        columns["place"] = random.choice(["Gaspe", "Innsbruck", "Kyoto"], count)
        yield pyarrow.table(columns)


def main(path: str, rows: int = 10_000_000) -> None:
    writer = None
    for table in groups(rows):
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=ROW_GROUP)
    if writer:
        writer.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
