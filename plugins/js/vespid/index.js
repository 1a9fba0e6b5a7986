// Write a Vespid model plugin as two functions over typed arrays. index.d.ts says what each of these does.

import graphs from "wasi:nn/graph@0.2.0-rc-2024-10-28";
import host from "vespid:model/host@0.1.0";
import tensors from "vespid:model/tensors@0.1.0";

export const ANY = -1;

const ARRAYS = {
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

export class PluginError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "PluginError";
    this.code = code;
  }

  static invalid(message) {
    return new PluginError("INVALID_ARGUMENT", message);
  }

  static notFound(message) {
    return new PluginError("NOT_FOUND", message);
  }

  static unsupported(message) {
    return new PluginError("UNSUPPORTED", message);
  }

  static unavailable(message) {
    return new PluginError("UNAVAILABLE", message);
  }

  static internal(message) {
    return new PluginError("INTERNAL", message);
  }
}

/** What marks a constructor's argument as a handle of the host's. */
const HANDLE = Symbol("handle");

export class Tensor {
  #handle;
  #datatype;
  #shape;

  constructor(datatype, shape, values) {
    this.#handle = datatype === HANDLE ? values : make(datatype, shape, encode(datatype, values));
  }

  static fromRaw(datatype, shape, data) {
    return new Tensor(HANDLE, null, make(datatype, shape, data));
  }

  get datatype() {
    return (this.#datatype ??= this.#live().datatype().toUpperCase());
  }

  get shape() {
    return (this.#shape ??= [...this.#live().shape()]);
  }

  get length() {
    return this.shape.reduce((length, extent) => length * extent, 1);
  }

  data() {
    return this.#live().data();
  }

  read(offset, length) {
    return refused(() => this.#live().read(offset, length));
  }

  share() {
    return Tensor._of(refused(() => this.#live().share()));
  }

  values() {
    const Numbers = ARRAYS[this.datatype];
    const data = this.data();
    if (Numbers) {
      return aligned(Numbers, data);
    }
    switch (this.datatype) {
      case "BOOL":
        return Array.from(data, (byte) => byte !== 0);
      case "FP16":
        return Float32Array.from(aligned(Uint16Array, data), fromHalf);
      case "BF16":
        // The upper half of an FP32.
        return new Float32Array(Uint32Array.from(aligned(Uint16Array, data), (bits) => bits << 16).buffer);
      default:
        throw PluginError.internal("a BYTES tensor has elements and no numbers: use elements() or strings()");
    }
  }

  *rows() {
    const values = this.values();
    const columns = this.shape.at(-1) ?? 1;
    for (let start = 0; start < values.length; start += columns) {
      yield values.slice(start, start + columns);
    }
  }

  elements() {
    const places = refused(() => this.#live().elements());
    const data = this.data();
    return places.map(([offset, length]) => data.subarray(Number(offset), Number(offset) + Number(length)));
  }

  strings() {
    return this.elements().map((element, place) => {
      try {
        return decodeText(element);
      } catch (error) {
        throw PluginError.invalid(`element ${place} is not UTF-8: ${error.message}`);
      }
    });
  }

  /** For this module and component.js: the handle, which is not this tensor's any more. */
  _take() {
    const handle = this.#live();
    this.#handle = undefined;
    return handle;
  }

  /** For this module and component.js: a tensor over a handle. */
  static _of(handle) {
    return new Tensor(HANDLE, null, handle);
  }

  #live() {
    if (this.#handle === undefined) {
      throw PluginError.internal("the tensor was handed over before: to a graph, another model or a response");
    }
    return this.#handle;
  }
}

function make(datatype, shape, data) {
  return refused(() => new tensors.Tensor(datatype.toLowerCase(), [...shape], data));
}

/** A typed array over bytes, which are copied where they do not lie as it needs them. */
function aligned(Numbers, bytes) {
  const size = Numbers.BYTES_PER_ELEMENT;
  const data = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new Numbers(data.buffer, data.byteOffset, data.byteLength / size);
}

function bytesOf(array) {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function encode(datatype, values) {
  const Numbers = ARRAYS[datatype];
  if (Numbers) {
    return bytesOf(values instanceof Numbers ? values : Numbers.from(values));
  }
  switch (datatype) {
    case "BOOL":
      return Uint8Array.from(values, (value) => (value ? 1 : 0));
    case "FP16":
      return bytesOf(Uint16Array.from(values, toHalf));
    case "BF16":
      return bytesOf(Uint16Array.from(values, toBrain));
    case "BYTES":
      return encodeElements(Array.from(values, (value) => (typeof value === "string" ? encodeText(value) : value)));
    default:
      throw PluginError.internal(`'${datatype}' is no datatype`);
  }
}

function encodeElements(elements) {
  const data = new Uint8Array(elements.reduce((length, element) => length + 4 + element.length, 0));
  const view = new DataView(data.buffer);
  let at = 0;
  for (const element of elements) {
    view.setUint32(at, element.length, true);
    data.set(element, at + 4);
    at += 4 + element.length;
  }
  return data;
}

const bits = new DataView(new ArrayBuffer(4));

function bitsOf(value) {
  bits.setFloat32(0, value);
  return bits.getUint32(0);
}

/** Rounded to even, as hardware does; what is no number stays none. */
function toBrain(value) {
  const wide = bitsOf(value);
  return Number.isNaN(value) ? 0x7fc0 : (wide + 0x7fff + ((wide >>> 16) & 1)) >>> 16;
}

function toHalf(value) {
  const sign = (bitsOf(value) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // The unit in the last place: that of the least normal number for all that are smaller.
  const exponent = Math.max(size === 0 ? -14 : Math.floor(Math.log2(size)), -14);
  const units = evenly(size * 2 ** (10 - exponent));
  // A carry into the next exponent adds up by itself.
  return sign | (units < 1024 ? units : ((exponent + 14) << 10) + units);
}

function evenly(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

function fromHalf(half) {
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  const size =
    exponent === 31 ? (fraction ? NaN : Infinity)
    : exponent === 0 ? fraction * 2 ** -24
    : (1024 + fraction) * 2 ** (exponent - 25);
  return half & 0x8000 ? -size : size;
}

export function encodeText(text) {
  const bytes = [];
  for (const character of text) {
    const code = character.codePointAt(0);
    // Half of a pair stands for no character.
    const point = code >= 0xd800 && code <= 0xdfff ? 0xfffd : code;
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
    else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    else
      bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
  }
  return Uint8Array.from(bytes);
}

export function decodeText(bytes) {
  const points = [];
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at];
    const more = first < 0x80 ? 0 : first >> 5 === 6 ? 1 : first >> 4 === 14 ? 2 : first >> 3 === 30 ? 3 : -1;
    let point = more === 0 ? first : first & (63 >> more);
    for (let next = 1; next <= more; next++) {
      point = bytes[at + next] >> 6 === 2 ? (point << 6) | (bytes[at + next] & 63) : NaN;
    }
    // Neither longer than need be, nor half of a pair, nor beyond the last character.
    const least = [0, 0x80, 0x800, 0x10000][more];
    if (!(point >= least && point <= 0x10ffff) || (point >= 0xd800 && point <= 0xdfff)) {
      throw new RangeError(`byte ${at}`);
    }
    points.push(point);
    at += more + 1;
  }
  // In parts, for a function takes so many arguments and no more.
  let text = "";
  for (let start = 0; start < points.length; start += 4096) {
    text += String.fromCodePoint(...points.slice(start, start + 4096));
  }
  return text;
}

/** What the host's functions refuse, as a PluginError. */
function refused(work) {
  try {
    return work();
  } catch (thrown) {
    throw asPluginError(thrown);
  }
}

function asPluginError(thrown) {
  const reason = thrown?.payload ?? thrown;
  if (reason instanceof Error) return reason;
  // Of wasi-nn: our code, a colon, and the text.
  if (typeof reason?.data === "function") {
    const [, code, message] = /^(?:([A-Z_]+): )?([^]*)$/.exec(reason.data());
    return new PluginError(code ?? "INTERNAL", message);
  }
  if (typeof reason?.message === "string") return new PluginError(reason.code, reason.message);
  return PluginError.internal(String(reason?.val ?? reason));
}

function named(tensors) {
  return Object.fromEntries(tensors);
}

export class Graph {
  #graph;

  constructor(name) {
    this.#graph = refused(() => graphs.loadByName(name));
  }

  compute(inputs) {
    return refused(() => {
      const given = Object.entries(inputs).map(([name, tensor]) => [name, tensors.Tensor.toNn(tensor._take())]);
      const computed = this.#graph.initExecutionContext().compute(given);
      return named(computed.map(([name, tensor]) => [name, Tensor._of(tensors.Tensor.fromNn(tensor))]));
    });
  }
}

export class Signature {
  constructor() {
    this.inputs = [];
    this.outputs = [];
  }

  input(name, datatype, shape) {
    return this.#add(this.inputs, name, datatype, shape, false);
  }

  optional(name, datatype, shape) {
    return this.#add(this.inputs, name, datatype, shape, true);
  }

  output(name, datatype, shape) {
    return this.#add(this.outputs, name, datatype, shape, false);
  }

  #add(list, name, datatype, shape, optional) {
    list.push({ name, datatype: datatype.toLowerCase(), shape: [...shape], optional });
    return this;
  }
}

export class Response {
  constructor(outputs = {}, parameters = {}) {
    this.outputs = outputs;
    this.parameters = parameters;
  }
}

export function config(key, otherwise) {
  return host.config(key) ?? otherwise;
}

export function env(name) {
  return host.env(name) ?? undefined;
}

export function secret(name) {
  return host.secret(name) ?? undefined;
}

export function infer(model, inputs, version = null) {
  const given = Object.entries(inputs).map(([name, tensor]) => ({ name, tensor: tensor._take() }));
  const answer = refused(() => host.infer(model, version, given));
  return named(answer.map(({ name, tensor }) => [name, Tensor._of(tensor)]));
}

export function remaining() {
  return Number(host.remaining()) / 1e9;
}

export function sleep(seconds) {
  host.sleep(Math.max(0, Math.floor(seconds * 1e9)));
}

function line(level) {
  return (...parts) => host.log(level, parts.map(shown).join(" "));
}

function shown(part) {
  if (typeof part === "string") return part;
  if (part instanceof Error) return `${part.name}: ${part.message}${part.stack ? `\n${part.stack}` : ""}`;
  try {
    return JSON.stringify(part) ?? String(part);
  } catch {
    return String(part);
  }
}

export const log = {
  trace: line("trace"),
  debug: line("debug"),
  info: line("info"),
  warn: line("warn"),
  error: line("error"),
};
