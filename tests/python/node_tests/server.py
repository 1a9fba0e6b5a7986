"""A `vespid serve` of our own, started anew after it died or did not answer."""

import http.client
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

# Far more than any test takes, on a machine that is busy with other things.
LIMIT_S = 60


class Lost(Exception):
    """The server died, or did not answer in time."""

    def __init__(self, kind: str, text: str):
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class Server:
    def __init__(self, vespid: Path, onnxruntime: str):
        self.vespid, self.onnxruntime = vespid, onnxruntime

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        # What an earlier server was given when it died would be loaded again.
        self.folder = tempfile.TemporaryDirectory(prefix="vespid-node-tests-")
        self.log = Path(self.folder.name, "log")
        command = [self.vespid, "serve", "--store", Path(self.folder.name, "store"), "--onnxruntime", self.onnxruntime]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *(word for port in ("--http", "--grpc", "--admin") for word in (port, "127.0.0.1:0"))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name != "VESPID_LOG"},
            )
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
        words = self.process.stdout.readline().decode().split() if ready else []
        addresses = [word.removeprefix("http=") for word in words if word.startswith("http=")]
        if not addresses:
            text = self.tail()
            self.stop()
            raise SystemExit(f"the server does not start: {text}")
        self.connection = http.client.HTTPConnection(addresses[0], timeout=LIMIT_S)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The status, headers (in lower case) and body of the answer. Raises `Lost`, with a new server in place."""
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            read = answer.read()
        except TimeoutError:
            self.process.kill()
            raise self.lost(f"{method} not answered within {LIMIT_S} s", hung=True) from None
        except (http.client.HTTPException, OSError) as error:
            raise self.lost(f"{method}: {error!r}") from None
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def lost(self, text: str, hung: bool = False) -> Lost:
        self.connection.close()
        # A process that crashes may take a moment to be gone.
        deadline = time.monotonic() + 5
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        kind = "hung" if hung or self.process.poll() is None else "died"
        text = f"{text}; exit status {self.process.poll()}; {self.tail()}"
        self.stop()
        self.start()
        return Lost(kind, text)

    def tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-5:])
