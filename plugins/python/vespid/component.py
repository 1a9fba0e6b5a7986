"""What the component exports: `plugin.py`, as the host calls it. `vespid build` names this module; a plugin does not."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

import plugin
from componentize_py_types import Err
from wit_world.imports import types

from vespid import Error, Parameter, Request, Response, Signature, _tensors, log


class _Lines:
    """A text stream whose lines go to the server's log."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._write(line)
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self._write(self._rest)
            self._rest = ""


class _answering:
    """Turns what the plugin raises into what the caller is told, and the log what is a mistake of the plugin's."""

    def __enter__(self) -> None:
        sys.stdout, sys.stderr = _Lines(log.info), _Lines(log.warn)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if error is None:
            return
        if not isinstance(error, Error):
            log.error("".join(traceback.format_exception(error)).rstrip())
            error = Error.internal(f"{type(error).__name__}: {error}")
        code = types.ErrorCode.__members__.get(error.code, types.ErrorCode.INTERNAL)
        raise Err(types.Error(code, error.message)) from None


def _parameter(value: Parameter) -> types.Parameter:
    if isinstance(value, bool):
        return types.Parameter_Boolean(value)
    if isinstance(value, int):
        return types.Parameter_Integer(value)
    if isinstance(value, float):
        return types.Parameter_Number(value)
    return types.Parameter_Text(str(value))


def _response(answer: Any) -> types.Response:
    response = answer if isinstance(answer, Response) else Response(answer)
    return types.Response(
        [_tensors.NamedTensor(name, tensor._take()) for name, tensor in response.outputs.items()],
        [(name, _parameter(value)) for name, value in response.parameters.items()],
    )


class Model:
    def describe(self) -> types.Signature:
        with _answering():
            signature: Signature = plugin.describe()
            return types.Signature(signature._inputs, signature._outputs)

    def predict(self, request: types.Request) -> types.Response:
        with _answering():
            return _response(plugin.predict(Request(request)))


class Responses:
    """The responses to one request, made as they are asked for."""

    def __init__(self, responses: Iterator[Any]) -> None:
        self._responses = iter(responses)

    def next(self) -> types.Response | None:
        with _answering():
            for response in self._responses:
                return _response(response)
            return None


class Streaming:
    def predict_stream(self, request: types.Request) -> Responses:
        with _answering():
            return Responses(plugin.predict_stream(Request(request)))
