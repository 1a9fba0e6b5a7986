"""Does all that the SDK can: see ../README.md."""

import random
import time

from vespid import (
    ANY,
    BYTES,
    UINT8,
    Datatype,
    Error,
    Graph,
    Request,
    Response,
    Signature,
    Tensor,
    config,
    infer,
    log,
    remaining,
    sleep,
)


def describe() -> Signature:
    signature = Signature()
    for datatype in Datatype:
        name = datatype.name.lower()
        signature.optional(name, datatype, [ANY]).output(name, datatype, [ANY])
    return signature.output("said", BYTES, [ANY])


def copied(tensor: Tensor) -> Tensor:
    values = tensor.elements() if tensor.datatype is BYTES else tensor.values()
    return Tensor(tensor.datatype, tensor.shape, values)


def said(*words: object) -> dict[str, Tensor]:
    return {"said": Tensor(BYTES, [len(words)], map(str, words))}


def predict(request: Request):
    what = request.parameters.get("do")
    if what is not None:
        return globals()[f"do_{what}"](request)
    outputs = {name: copied(tensor) for name, tensor in request.items()}
    return outputs | (said("copied") if request.wants("said") else {})


def do_refuse(request: Request):
    raise Error.unavailable("come back later")


def do_fail(request: Request):
    return [][1]


def do_config(request: Request):
    return said(config("greeting"), config("number"), config("other"), config("other", "default"))


def do_parameters(request: Request):
    return Response(said(request.id), {"yes": True, "whole": 3, "half": 0.5, "text": str(request.parameters["text"])})


def do_log(request: Request):
    for level in (log.trace, log.debug, log.info, log.warn, log.error):
        level(f"a line of {level.__name__}")
    print("a line that was printed")
    return said()


def do_graph(request: Request):
    Graph("none")


def do_infer(request: Request):
    numbers = Tensor(BYTES, [1, 16], map(str, range(16)))
    ones = Tensor(BYTES, [1, 16], ["1"] * 16)
    return {"said": first_row(infer("simple_string", {"INPUT0": numbers, "INPUT1": ones})["OUTPUT0"])}


def first_row(tensor: Tensor) -> Tensor:
    return Tensor.from_raw(tensor.datatype, tensor.shape[1:], tensor.data())


def do_denied(request: Request):
    infer("iris", {})


def do_twice(request: Request):
    tensor = Tensor(UINT8, [1], [1])
    tensor._take()
    return {"uint8": tensor}


def do_mismatch(request: Request):
    return {"uint8": Tensor(UINT8, [2], [1])}


def do_text(request: Request):
    return said(*request["bytes"].strings())


def do_wait(request: Request):
    begun, left = time.monotonic(), remaining()
    sleep(0.05)
    return said(time.monotonic() - begun >= 0.05, 0 < remaining() <= left - 0.05)


def do_random(request: Request):
    return said(random.random())


def do_share(request: Request):
    kept = request["uint8"]
    handed = kept.share()
    return {"uint8": handed} | said(*kept.values())


def do_rows(request: Request):
    return said(*(sum(row) for row in request["int32"].rows()), request["int32"].read(0, 4) == b"\1\0\0\0")


def predict_stream(request: Request):
    for place in range(request.parameters.get("pieces", 2)):
        if place == 5:
            raise Error.invalid("five pieces are enough")
        # A caller that names no outputs wants all of them.
        nothing = {datatype.name.lower(): Tensor(datatype, [0], []) for datatype in Datatype}
        yield nothing | said(place)
