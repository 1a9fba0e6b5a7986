"""The table of operators, as Markdown: what each backend passes, and in a few words why not the rest."""

import re
import subprocess
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import onnx

from cases import Case
from outcome import LOST, Outcome

TITLES = {"embedded": "Embedded", "onnxruntime": "ONNX Runtime"}
KINDS = ("passed", "wrong", "refused", "failed", *LOST)
ROOT = Path(__file__).resolve().parents[3]

# What a server's text comes to; the first that is found counts.
REASONS = (
    (r"has datatype (\w+), which the", r"datatype \1"),
    (r"(\S+) operator not supported", r"no \1"),
    (r"(\S+)\(-1\) is not a registered function/op", r"no \1"),
    (r"Could not find an implementation for (\w+)\((\d+)\)", r"\1 not of version \2 or these datatypes"),
    (r"Failed to find kernel for (\w+)\((\d+)\)", r"\1 not of version \2 or these datatypes"),
    (r'error in attribute "(\w+)"', r"`\1`"),
    (r"unsupported or duplicated attributes: (\w+)", r"`\1`"),
    (r'Resize that makes .* has mode "cubic"', r"`mode`"),
    (r"unsupported output: (\w+)", r"output `\1`"),
    (r"does not yet support `(\w+)` input", r"input `\1`"),
    (r"`(\w+)=\w+` is not supported", r"`\1`"),
    (r"operator has \d+ inputs but maximum is \d+", r"number of inputs"),
    (r"unsupported input type|expected tensor with type \S+ but has type", r"not these datatypes"),
    (r"expected tensor with \d+ dims? but has|input must have \d+ dims", r"not this rank"),
    (
        r"(?:strides|pads) len does not match|expected \d+ (?:pad|stride|dilation) values",
        r"`kernel_shape`, `strides` or `dilations` left to their defaults",
    ),
    (r"the model's answer: output .* has shape", r"another shape than the graph declares"),
    (r"Failed to construct locale with name:([^:]+):", r"no locale \1 on the machine"),
    (r"was false\. ([^.]+)", r"\1"),
    (r"Status Message: ([^.]+)", r"\1"),
    (r'operator "[^"]*" failed: (?:[a-z ]+: )?(.+?)\. Inputs were', r"\1"),
)
DATATYPE = "datatype "
LONGEST_REASON = 70


def write(path: Path, vespid: Path, library: str, cases: list[Case], results: dict[str, dict[str, Outcome]]) -> None:
    parts = [
        head(vespid, library),
        totals(cases, results),
        "## Operators\n\n" + operators([case for case in cases if not case.expanded], results),
        "## Operators written out as functions\n\nONNX defines some operators in terms of others. These tests have that "
        "definition for a graph, and so tell\nwhether such an operator can be exported in another form.\n\n"
        + operators([case for case in cases if case.expanded], results),
        wrong(results),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def head(vespid: Path, library: str) -> str:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    (rten,) = [package["version"] for package in lock["package"] if package["name"] == "rten"]
    doctor = subprocess.run([vespid, "doctor", "--onnxruntime", library], capture_output=True, text=True, check=False)
    onnxruntime = re.search(r"ONNX Runtime (\S+) \(", doctor.stdout)
    if onnxruntime is None:
        raise SystemExit(f"`vespid doctor` does not say which ONNX Runtime this is: {doctor.stdout}{doctor.stderr}")
    return f"""# Operators

Written by `cargo xtask operators`; do not edit.

The node tests of onnx {onnx.__version__}, asked through a server on the CPU, on each backend: embedded (rten {rten}) and ONNX
Runtime {onnxruntime[1]}. A test is a graph of one operator, its inputs, and the outputs that it must have (relative tolerance 1e-3,
absolute 1e-7, as in ONNX's own runner). There are tests for each form and datatype of an operator, so that one with failures may
well do what your graph needs. The last column says what fails, and how often: a datatype, an attribute (`so`) or an operator
that the backend has not, or a short form of what it said; "none" is that it does not have this operator. Most tests are of an
operator's newest version, which a library may not have where it has the older ones.
"""


def totals(cases: list[Case], results: dict[str, dict[str, Outcome]]) -> str:
    counts = {backend: Counter(outcome.kind for outcome in results[backend].values()) for backend in results}
    kinds = [kind for kind in KINDS if kind not in LOST or any(count[kind] for count in counts.values())]
    rows = [[TITLES[backend], *(str(count[kind]) for kind in kinds)] for backend, count in counts.items()]
    skipped = Counter(case.skipped for case in cases if case.skipped)
    reasons = ", ".join(f"{reason} ({number})" for reason, number in sorted(skipped.items()))
    return (
        markdown(["Backend", *kinds], rows, right=range(1, len(kinds) + 1))
        + "\n*Wrong*: other outputs. *Refused*: when the graph was loaded. *Failed*: when it was run. Besides, "
        + f"{skipped.total()} of all {len(cases)} tests were\nnot asked, for the protocol has no word for what goes in or out, or "
        + f"the outputs are random:\n{reasons}.\n"
    )


def operators(cases: list[Case], results: dict[str, dict[str, Outcome]]) -> str:
    by_operator: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        by_operator[case.domain, case.operator].append(case)
    rows = []
    for (domain, operator), tests in sorted(by_operator.items()):
        asked = [case for case in tests if not case.skipped]
        row = [f"{domain}.{operator}" if domain else operator, str(len(asked))]
        notes = []
        for backend, outcomes in results.items():
            of_these = [outcomes[case.name] for case in asked]
            passed = sum(outcome.kind == "passed" for outcome in of_these)
            row.append(str(passed) if asked else "")
            if passed < len(asked):
                notes.append(f"{TITLES[backend]}: {failures(of_these, row[0])}")
        if len(asked) < len(tests):
            notes.append(f"not asked: {len(tests) - len(asked)}")
        rows.append([*row, "; ".join(notes)])
    titles = ["Operator", "Tests", *(TITLES[backend] for backend in results), "What does not pass"]
    return markdown(titles, rows, right=range(1, 2 + len(results)))


def failures(outcomes: list[Outcome], operator: str) -> str:
    counted = Counter(reason(outcome, operator) for outcome in outcomes if outcome.kind != "passed")
    if datatypes := sorted(text for text in counted if text.startswith(DATATYPE)):
        number = sum(counted.pop(text) for text in datatypes)
        counted[DATATYPE + ", ".join(text.removeprefix(DATATYPE) for text in datatypes)] = number
    return ", ".join(f"{text} ({number})" for text, number in sorted(counted.items()))


def reason(outcome: Outcome, operator: str) -> str:
    if outcome.kind in ("wrong", *LOST):
        return outcome.kind
    for pattern, text in REASONS:
        if found := re.search(pattern, outcome.text):
            # Both libraries put a mark of their own between a domain and an operator.
            said = re.sub(r"^no (\S+)[/:](\w+)$", r"no \1.\2", found.expand(text).replace("|", "\\|"))
            if said == f"no {operator}":
                return "none"
            said = said.removeprefix(f"{operator} ")
            return said if len(said) <= LONGEST_REASON else said[:LONGEST_REASON].rsplit(" ", 1)[0] + " …"
    return outcome.kind


def wrong(results: dict[str, dict[str, Outcome]]) -> str:
    rows = []
    for backend, outcomes in results.items():
        for name, outcome in sorted(outcomes.items()):
            if outcome.kind in ("wrong", *LOST):
                rows.append([TITLES[backend], f"`{name}`", outcome.text if outcome.kind == "wrong" else outcome.kind])
    return "## Wrong outputs\n\n" + markdown(["Backend", "Test", "How"], rows)


def markdown(titles: list[str], rows: list[list[str]], right: range = range(0)) -> str:
    rule = ["--:" if column in right else "---" for column in range(len(titles))]
    return "".join(f"| {' | '.join(row)} |\n" for row in [titles, rule, *rows])
