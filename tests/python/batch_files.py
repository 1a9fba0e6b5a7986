"""Files of flowers for the tests of jobs, written and read by pyarrow.

    batch_files.py write FORMAT FILE ROWS [FIRST] [GROUP]   rows in groups of GROUP, with ids from FIRST;
                                                            `categories` is Parquet with a dictionary of the places
    batch_files.py texts FILE TEXT...                       Parquet with a column of bytes, `text`, \\xff among them as it is in bytes
    batch_files.py read FOLDER                              the rows of a job's output, as a line of JSON each, by id
"""

import csv
import json
import sys
from pathlib import Path

import numpy
import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
PLACES = ["Gaspé", 'Kyoto, "east"', "Innsbruck\nvalley"]


def flowers(rows: int, first: int) -> pyarrow.Table:
    ids = numpy.arange(first, first + rows, dtype=numpy.int64)
    # The same flower for the same id, wherever it is.
    values = [numpy.round(0.1 + (ids * (7 + 4 * index) % 79) / 10, 1).astype(numpy.float32) for index in range(4)]
    columns = {"id": ids} | dict(zip(COLUMNS, values, strict=True))
    return pyarrow.table(columns | {"place": [PLACES[number % 3] for number in ids.tolist()]})


def write(format: str, path: str, rows: str, first: str = "0", group: str = "1000") -> None:
    table = flowers(int(rows), int(first))
    match format:
        case "categories":
            place = table.column("place").dictionary_encode()
            table = table.set_column(table.schema.get_field_index("place"), "place", place)
            pyarrow.parquet.write_table(table, path, row_group_size=int(group))
        case "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=int(group))
        case "csv":
            pyarrow.csv.write_csv(table, path)
        case "arrow":
            with pyarrow.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=int(group))
        case "jsonl":
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def texts(path: str, *texts: str) -> None:
    values = [text.encode().replace(rb"\xff", b"\xff") for text in texts]
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(values, pyarrow.binary())}), path)


def rows_of(path: Path) -> list[dict]:
    match path.suffix:
        case ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        case ".arrow":
            return pyarrow.ipc.open_file(path).read_all().to_pylist()
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                return [row_of(row) for row in csv.DictReader(file)]
    raise ValueError(path)


def row_of(row: dict[str, str]) -> dict:
    """A row of CSV, where lists are columns of their own."""
    probabilities = [float(row.pop(f"probabilities_{index}")) for index in range(3)]
    numbers = {name: float(row[name]) for name in COLUMNS if name in row}
    return row | numbers | {"id": int(row["id"]), "probabilities": probabilities}


def read(folder: str) -> None:
    paths = sorted(path for path in Path(folder).iterdir() if not path.name.startswith("_"))
    rows = [row for path in paths for row in rows_of(path)]
    for row in sorted(rows, key=lambda row: row["id"]):
        print(json.dumps(row))


if __name__ == "__main__":
    {"write": write, "texts": texts, "read": read}[sys.argv[1]](*sys.argv[2:])
