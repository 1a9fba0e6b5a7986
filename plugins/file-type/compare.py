# /// script
# requires-python = ">=3.11"
# dependencies = ["magika==1.0.3"]
# ///
"""Asks Google's own Magika client and a Vespid server about the same files, and prints where they differ.

    uv run compare.py --server http://localhost:8000 /usr/share /usr/lib --sample 1000 --seed 7

Ends with 1 where a label or MIME type differs, or a score by more than the tolerance, or the server fails.

Magika's graph magnifies rounding: ONNX Runtime itself gives a file a score up to 5.3e-3 apart alone and among others.
So the client is asked about one file at a time, and the graph that is served rounds as ONNX Runtime then does, in
requests of any size: the tolerance of 1e-4 is for that. Magika's graph as it is, on Vespid, is up to 4e-3 apart.
"""

import argparse
import http.client
import json
import os
import random
import sys
import urllib.parse
from pathlib import Path

from magika import Magika

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="files, or folders to look through")
    parser.add_argument("--server", default="http://localhost:8000", metavar="URL")
    parser.add_argument("--model", default="file-type")
    parser.add_argument("--sample", type=int, metavar="N", help="take N of the files at random")
    parser.add_argument("--seed", type=int, default=0, help="choose the same files again")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="files a request (default 1)")
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help="of the score (default 1e-4)")
    parser.add_argument("--max-bytes", type=int, default=32 << 20, metavar="N", help="leave larger files out")
    options = parser.parse_args()

    files = sorted(file for path in options.paths for file in regular_files(path))
    if options.sample is not None and options.sample < len(files):
        files = sorted(random.Random(options.seed).sample(files, options.sample))
    client, server = Magika(), Server(options.server, options.model)
    asked = skipped = mismatches = 0
    labels: set[str] = set()
    worst = 0.0
    pending: list[tuple[Path, bytes]] = []

    def settle() -> None:
        nonlocal asked, mismatches, worst
        if not pending:
            return
        try:
            answers = server.ask([content for _, content in pending])
        except Refused as error:
            asked += len(pending)
            mismatches += len(pending)
            print(f"refused  {pending[0][0]} and {len(pending) - 1} more: {error}")
            answers = []
        results = [client.identify_path(file) for file, _ in pending] if answers else []
        for (file, _), (label, mime_type, score), result in zip(pending, answers, results):
            asked += 1
            expected = str(result.output.label), result.output.mime_type, result.score
            labels.add(expected[0])
            worst = max(worst, abs(score - expected[2]))
            if (label, mime_type) != expected[:2] or not abs(score - expected[2]) <= options.tolerance:
                mismatches += 1
                print(f"differs  {file}: Magika {expected}, server {(label, mime_type, score)}")
        pending.clear()

    for file in files:
        try:
            if file.stat().st_size > options.max_bytes:
                skipped += 1
                continue
            pending.append((file, file.read_bytes()))
        except OSError:
            skipped += 1
            continue
        if len(pending) >= options.batch:
            settle()
    settle()
    print(
        f"{asked} files compared, {mismatches} mismatches, {skipped} left out; "
        f"{len(labels)} labels, largest score difference {worst:.1e}"
    )
    return 1 if mismatches or not asked else 0


def regular_files(path: Path):
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield file
    elif path.is_file():
        yield path
    else:
        sys.exit(f"error: {path} is neither a file nor a folder")


class Refused(Exception):
    """The server's answer is an error."""


class Server:
    """The model on the server. Files go as one tensor of Triton's binary protocol."""

    def __init__(self, url: str, model: str) -> None:
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.netloc, timeout=60)
        self.path = f"{parts.path.rstrip('/')}/v2/models/{model}/infer"

    def ask(self, contents: list[bytes]) -> list[tuple[str, str, float]]:
        body = b"".join(len(content).to_bytes(4, "little") + content for content in contents)
        tensor = {"name": "file", "datatype": "BYTES", "shape": [len(contents)]}
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(body)}}]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        self.connection.request("POST", self.path, head + body, headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise Refused(f"{response.status} {answer.get('error')}")
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        return list(zip(outputs["label"], outputs["mime_type"], outputs["score"], strict=True))


if __name__ == "__main__":
    sys.exit(main())
