"""Runs ONNX's own node tests on each of Vespid's backends, through a server.

    python tests/python/node_tests --vespid target/vespid --onnxruntime libonnxruntime.so --table docs/operators.md
    python tests/python/node_tests --vespid target/vespid --onnxruntime libonnxruntime.so relu/test_relu concat

A test is one of the `onnx` package's: a graph of one operator (or of what the operator is made of), its inputs, and the
outputs that it must have. Each is made a package, uploaded, asked, compared as ONNX's own runner does, and removed. A
server that dies or does not answer is a finding: it is told, and a new one goes on with the next test.

Writes a line of JSON for each test to standard output (`--results FILE`: to a file), and a count to standard error.
Ends with 0 where every test had an outcome, whichever it was, and with 1 where a server died or did not answer.
`cargo xtask operators` has all that this needs.
"""

import argparse
import json
import signal
import sys
from collections import Counter
from pathlib import Path

from cases import Case, load
from outcome import LOST, Outcome, run
from server import Server
from table import write

BACKENDS = ("embedded", "onnxruntime")


def main() -> int:
    options = arguments()
    # So that a server ends with this program however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cases = load(options.tests)
    results: dict[str, dict[str, Outcome]] = {}
    output = open(options.results, "w", encoding="utf-8") if options.results else sys.stdout
    for backend in options.backend or BACKENDS:
        results[backend] = outcomes = {}
        library = options.onnxruntime if backend == "onnxruntime" else "off"
        with Server(options.vespid, library) as server:
            for number, case in enumerate(cases, 1):
                outcomes[case.name] = outcome = run(server, backend, case)
                record = {"backend": backend, "test": case.name, "outcome": outcome.kind, "text": outcome.text}
                print(json.dumps(record), file=output, flush=True)
                progress(f"{backend}: {number} of {len(cases)}, {count(outcomes)}", last=number == len(cases))
        for name, outcome in outcomes.items():
            if outcome.kind in LOST:
                print(f"{backend}: {name}: {outcome.kind}: {outcome.text}", file=sys.stderr)
    if options.table:
        write(options.table, options.vespid, options.onnxruntime, cases, results)
    lost = any(outcome.kind in LOST for outcomes in results.values() for outcome in outcomes.values())
    return int(lost)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", help="MODULE or MODULE/TEST of onnx.backend.test.case.node; all by default")
    parser.add_argument("--vespid", required=True, type=Path, metavar="FILE", help="the binary")
    parser.add_argument("--onnxruntime", required=True, metavar="FILE", help="the library of ONNX Runtime")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="this one alone; both by default")
    parser.add_argument("--results", metavar="FILE", help="where the outcome of each test goes")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table of operators")
    options = parser.parse_args()
    if options.table and (options.tests or options.backend):
        parser.error("--table is of all tests on both backends: leave the tests and --backend out")
    return options


def count(outcomes: dict[str, Outcome]) -> str:
    counted = Counter(outcome.kind for outcome in outcomes.values())
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counted.items()))


def progress(line: str, last: bool) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
