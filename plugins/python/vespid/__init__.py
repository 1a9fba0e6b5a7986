"""Write a Vespid model plugin as two functions over typed tensors.

A plugin is a file `plugin.py` with `describe`, which says what the model takes and gives, and `predict`, which answers one
request; with `predict_stream`, a generator of responses, it answers in pieces too. `vespid build` makes a WebAssembly
component of it. The arithmetic of a graph runs outside of the plugin, natively: the plugin names the graph and hands it
tensors.

Tensors live with the host. Taking one from the request and putting it into the response or into a graph copies nothing;
`values`, `elements` and `data` copy the data in, `Tensor(...)` copies it out.

There is neither numpy nor a file system nor a network, and what `plugin.py` imports is loaded when the plugin is built: an
import inside of a function finds nothing later. What runs at the top of `plugin.py` runs once, when the plugin is built.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from types import FunctionType
from typing import TYPE_CHECKING, Any

import componentize_py_runtime as _runtime
from componentize_py_types import Err, Ok
from wit_world.imports import graph as _graph
from wit_world.imports import host as _host
from wit_world.imports import tensors as _tensors
from wit_world.imports import types as _types

if TYPE_CHECKING:
    from enum import Enum

    class Datatype(Enum):
        """The datatypes of the Open Inference Protocol."""

        # The bindings, from which it is otherwise, are made when the plugin is built, where no editor sees them.
        BOOL = 0
        UINT8 = 1
        UINT16 = 2
        UINT32 = 3
        UINT64 = 4
        INT8 = 5
        INT16 = 6
        INT32 = 7
        INT64 = 8
        FP16 = 9
        BF16 = 10
        FP32 = 11
        FP64 = 12
        BYTES = 13
else:
    from wit_world.imports.tensors import Datatype

__all__ = [
    "ANY", "BF16", "BOOL", "BYTES", "Datatype", "Error", "FP16", "FP32", "FP64", "Graph", "INT16", "INT32", "INT64", "INT8",
    "Parameter", "Request", "Response", "Signature", "Tensor", "UINT16", "UINT32", "UINT64", "UINT8", "config", "env", "infer",
    "log", "remaining", "secret", "sleep",
]  # fmt: skip

#: In a signature's shape: any extent is accepted.
ANY = -1

BOOL, BYTES = Datatype.BOOL, Datatype.BYTES
UINT8, UINT16, UINT32, UINT64 = Datatype.UINT8, Datatype.UINT16, Datatype.UINT32, Datatype.UINT64
INT8, INT16, INT32, INT64 = Datatype.INT8, Datatype.INT16, Datatype.INT32, Datatype.INT64
FP16, BF16, FP32, FP64 = Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64

#: A value beside the tensors of a request or response.
Parameter = bool | int | float | str

# What `array` has a code for; the others are lists.
_CODES = {
    UINT8: "B", UINT16: "H", UINT32: "I", UINT64: "Q", INT8: "b", INT16: "h", INT32: "i", INT64: "q", FP32: "f", FP64: "d",
}  # fmt: skip


class Error(Exception):
    """A failure that the caller of the model sees: its code and a message that says what was wrong."""

    def __init__(self, code: str, message: str) -> None:
        """`code` is one of INVALID_ARGUMENT, NOT_FOUND, UNSUPPORTED, UNAVAILABLE, DEADLINE_EXCEEDED and INTERNAL."""
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def invalid(cls, message: str) -> Error:
        """The caller can mend the request."""
        return cls("INVALID_ARGUMENT", message)

    @classmethod
    def not_found(cls, message: str) -> Error:
        """Something that the request names does not exist."""
        return cls("NOT_FOUND", message)

    @classmethod
    def unsupported(cls, message: str) -> Error:
        """The plugin does not do what is asked for."""
        return cls("UNSUPPORTED", message)

    @classmethod
    def unavailable(cls, message: str) -> Error:
        """The call cannot be served now; the caller may try again."""
        return cls("UNAVAILABLE", message)

    @classmethod
    def internal(cls, message: str) -> Error:
        """The plugin failed."""
        return cls("INTERNAL", message)


class Tensor:
    """An immutable, shaped, row-major array whose data stays with the host until it is read."""

    __slots__ = ("_handle", "_datatype", "_shape")

    def __init__(self, datatype: Datatype, shape: Sequence[int], values: Iterable[Any]) -> None:
        """A tensor of values in row-major order: numbers, bools, or of BYTES `str`s and `bytes`."""
        self._own(_make(datatype, shape, _encode(datatype, values)), datatype, tuple(shape))

    @classmethod
    def from_raw(cls, datatype: Datatype, shape: Sequence[int], data: bytes) -> Tensor:
        """A tensor of data in the protocol's raw layout: little-endian, each element of BYTES behind its length in 32 bits."""
        return cls._of(_make(datatype, shape, bytes(data)))

    @classmethod
    def _of(cls, handle: _tensors.Tensor) -> Tensor:
        tensor = cls.__new__(cls)
        tensor._own(handle, None, None)
        return tensor

    def _own(self, handle: _tensors.Tensor, datatype: Datatype | None, shape: tuple[int, ...] | None) -> None:
        self._handle: _tensors.Tensor | None = handle
        self._datatype = datatype
        self._shape = shape

    def _live(self) -> _tensors.Tensor:
        if self._handle is None:
            raise Error.internal("the tensor was handed over before: to a graph, another model or a response")
        return self._handle

    def _take(self) -> _tensors.Tensor:
        handle, self._handle = self._live(), None
        return handle

    @property
    def datatype(self) -> Datatype:
        if self._datatype is None:
            self._datatype = self._live().datatype()
        return self._datatype

    @property
    def shape(self) -> tuple[int, ...]:
        if self._shape is None:
            self._shape = tuple(self._live().shape())
        return self._shape

    def __len__(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.datatype.name}, {list(self.shape)})"

    def data(self) -> bytes:
        """The data in the protocol's raw layout."""
        return self._live().data()

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes of the data."""
        with _refused():
            return self._live().read(offset, length)

    def share(self) -> Tensor:
        """Another tensor over the same data, to hand one on and keep one; nothing is copied."""
        with _refused():
            return Tensor._of(self._live().share())

    def values(self) -> Any:
        """The numbers, as an `array.array` that is yours to change; of BOOL, FP16 and BF16 a list."""
        datatype, data = self.datatype, self.data()
        if code := _CODES.get(datatype):
            return array(code, data)
        if datatype is BOOL:
            return [byte != 0 for byte in data]
        if datatype is FP16:
            return list(struct.unpack(f"<{len(data) // 2}e", data))
        if datatype is BF16:
            # The upper half of an FP32.
            wide = bytearray(2 * len(data))
            wide[2::4], wide[3::4] = data[0::2], data[1::2]
            return list(struct.unpack(f"<{len(data) // 2}f", wide))
        raise Error.internal("a BYTES tensor has elements and no numbers: use elements() or strings()")

    def rows(self) -> Iterator[Any]:
        """The numbers row by row: the last dimension each time."""
        values = self.values()
        columns = self.shape[-1] if self.shape else 1
        return (values[start : start + columns] for start in range(0, len(values), columns or 1))

    def elements(self) -> list[bytes]:
        """The elements of a BYTES tensor."""
        with _refused():
            places = self._live().elements()
        data = self.data()
        return [data[offset : offset + length] for offset, length in places]

    def strings(self) -> list[str]:
        """The elements of a BYTES tensor as text. One that is not UTF-8 is the caller's mistake."""
        strings = []
        for place, element in enumerate(self.elements()):
            try:
                strings.append(element.decode())
            except UnicodeDecodeError as error:
                raise Error.invalid(f"element {place} is not UTF-8: {error}") from None
        return strings


class _Unwrapping:
    """The runtime for a constructor that may fail: what componentize-py generates takes its answer for the resource."""

    @staticmethod
    def call_import(*call: Any) -> Any:
        result = _runtime.call_import(*call)
        if isinstance(result, Err):
            raise result
        return result.value if isinstance(result, Ok) else result


_constructor = _tensors.Tensor.__init__
_tensors.Tensor.__init__ = FunctionType(
    _constructor.__code__, {**_constructor.__globals__, "componentize_py_runtime": _Unwrapping}
)


def _make(datatype: Datatype, shape: Sequence[int], data: bytes) -> _tensors.Tensor:
    with _refused():
        return _tensors.Tensor(datatype, list(shape), data)


def _encode(datatype: Datatype, values: Iterable[Any]) -> bytes:
    if code := _CODES.get(datatype):
        if isinstance(values, array) and values.typecode == code:
            return values.tobytes()
        return array(code, values).tobytes()
    if datatype is BYTES:
        data = bytearray()
        for value in values:
            element = value.encode() if isinstance(value, str) else bytes(value)
            data += len(element).to_bytes(4, "little") + element
        return bytes(data)
    values = list(values)
    if datatype is BOOL:
        return bytes(1 if value else 0 for value in values)
    if datatype is FP16:
        return struct.pack(f"<{len(values)}e", *values)
    data = bytearray()
    for bits in array("I", struct.pack(f"<{len(values)}f", *values)):
        # Rounded to even, as hardware does; what is no number stays none.
        nan = bits & 0x7FFFFFFF > 0x7F800000
        data += ((bits >> 16) | 0x40 if nan else (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to_bytes(2, "little")
    return bytes(data)


class _refused:
    """Turns what the host's functions refuse into an Error."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Err):
            return
        refused = error.value
        if isinstance(refused, _host.InferError):
            raise Error(refused.code, refused.message) from None
        if hasattr(refused, "data"):
            # Of wasi-nn: our code, a colon, and the text.
            code, _, message = refused.data().partition(": ")
            raise Error(code, message) from None
        raise Error.internal(refused.value) from None


class Tensors(Mapping[str, Tensor]):
    """Named tensors: of a request, or what a graph or another model answered."""

    def __init__(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise Error.internal(f"there is no tensor '{name}', only {', '.join(self._tensors) or 'none'}")
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def get(self, name: str, default: Any = None) -> Any:
        return self._tensors.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Request(Tensors):
    """A request whose inputs the host has checked against the signature: `request["x"]` is the input `x`."""

    #: The caller's id for the request.
    id: str | None
    #: What the caller sent besides.
    parameters: dict[str, Parameter]

    def __init__(self, request: _types.Request) -> None:
        super().__init__((input.name, Tensor._of(input.tensor)) for input in request.inputs)
        self.id = request.id
        self.parameters = {name: parameter.value for name, parameter in request.parameters}
        self._outputs = request.outputs

    def wants(self, output: str) -> bool:
        """Whether the caller wants this output. What is not wanted need not be computed; where it is, the host drops it."""
        return not self._outputs or output in self._outputs


class Response:
    """The answer to a request. A plugin may return a plain `dict` of tensors in its place."""

    def __init__(self, outputs: Mapping[str, Tensor] | None = None, parameters: Mapping[str, Parameter] | None = None):
        self.outputs: dict[str, Tensor] = dict(outputs or {})
        self.parameters: dict[str, Parameter] = dict(parameters or {})


class Signature:
    """The inputs and outputs of a model: `Signature().input("x", FP32, [ANY, 4]).output("y", BYTES, [ANY])`."""

    def __init__(self) -> None:
        self._inputs: list[_types.TensorSpec] = []
        self._outputs: list[_types.TensorSpec] = []

    def input(self, name: str, datatype: Datatype, shape: Sequence[int]) -> Signature:
        """Adds an input."""
        self._inputs.append(_types.TensorSpec(name, datatype, list(shape), False))
        return self

    def optional(self, name: str, datatype: Datatype, shape: Sequence[int]) -> Signature:
        """Adds an input that a request may leave out."""
        self._inputs.append(_types.TensorSpec(name, datatype, list(shape), True))
        return self

    def output(self, name: str, datatype: Datatype, shape: Sequence[int]) -> Signature:
        """Adds an output."""
        self._outputs.append(_types.TensorSpec(name, datatype, list(shape), False))
        return self


class Graph:
    """A graph of the model's package, computed natively by the host."""

    def __init__(self, name: str) -> None:
        """The graph that model.toml names so. It was loaded with the model; nothing is loaded here."""
        with _refused():
            self._graph = _graph.load_by_name(name)

    def compute(self, inputs: Mapping[str, Tensor]) -> Tensors:
        """Computes the graph. The inputs are handed over; calls of other requests may be computed along with this one."""
        with _refused():
            given = [(name, _tensors.Tensor.to_nn(tensor._take())) for name, tensor in inputs.items()]
            computed = self._graph.init_execution_context().compute(given)
        return Tensors((name, Tensor._of(_tensors.Tensor.from_nn(tensor))) for name, tensor in computed)


def config(key: str, default: str | None = None) -> str | None:
    """A value of the `[config]` table of model.toml, as text."""
    value = _host.config(key)
    return default if value is None else value


def env(name: str) -> str | None:
    """A value of the environment that model.toml asks for (`[grants] env`) and the server gives."""
    return _host.env(name)


def secret(name: str) -> str | None:
    """A secret that model.toml asks for (`[grants] secrets`) and the server gives. Keep it out of the log and of answers."""
    return _host.secret(name)


def infer(model: str, inputs: Mapping[str, Tensor], version: str | None = None) -> Tensors:
    """Calls another model of this server, which model.toml must grant (`[grants] models`), within this call's deadline."""
    given = [_tensors.NamedTensor(name, tensor._take()) for name, tensor in inputs.items()]
    with _refused():
        answer = _host.infer(model, version, given)
    return Tensors((output.name, Tensor._of(output.tensor)) for output in answer)


def remaining() -> float:
    """The seconds left until the call's deadline; 0 once it has passed."""
    return _host.remaining() / 1e9


def sleep(seconds: float) -> None:
    """Waits, while others run. The call ends at its deadline, however long this was to be."""
    _host.sleep(max(0, int(seconds * 1e9)))


class log:
    """Lines for the server's log, which adds the model's name and the request's id. `print` writes such lines too."""

    @staticmethod
    def trace(message: object) -> None:
        _host.log(_host.LogLevel.TRACE, str(message))

    @staticmethod
    def debug(message: object) -> None:
        _host.log(_host.LogLevel.DEBUG, str(message))

    @staticmethod
    def info(message: object) -> None:
        _host.log(_host.LogLevel.INFO, str(message))

    @staticmethod
    def warn(message: object) -> None:
        _host.log(_host.LogLevel.WARN, str(message))

    @staticmethod
    def error(message: object) -> None:
        _host.log(_host.LogLevel.ERROR, str(message))
