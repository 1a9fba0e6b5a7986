/**
 * Write a Vespid model plugin as two functions over typed arrays.
 *
 * A plugin is a file `plugin.js` that exports `describe`, which says what the model takes and gives, and `predict`, which
 * answers one request; with `predictStream`, a generator of responses, it answers in pieces too. `vespid build` makes a
 * WebAssembly component of it. The arithmetic of a graph runs outside of the plugin, natively: the plugin names the graph
 * and hands it tensors.
 *
 * Tensors live with the host. Taking one from the request and putting it into the response or into a graph copies nothing;
 * `values`, `elements` and `data` copy the data in, `new Tensor` copies it out.
 *
 * There is no file system, no network, no `fetch` and no timer. What stands at the top of `plugin.js` runs once, when the
 * plugin is built.
 */

/** In a signature's shape: any extent is accepted. */
export const ANY: -1;

/** The datatypes of the Open Inference Protocol. */
export type Datatype =
  | "BOOL"
  | "UINT8" | "UINT16" | "UINT32" | "UINT64"
  | "INT8" | "INT16" | "INT32" | "INT64"
  | "FP16" | "BF16" | "FP32" | "FP64"
  | "BYTES";

/** The values that a tensor of a datatype is made of, and read as. FP16 and BF16 are read as Float32Array. */
export interface Values {
  BOOL: boolean[];
  UINT8: Uint8Array;
  UINT16: Uint16Array;
  UINT32: Uint32Array;
  UINT64: BigUint64Array;
  INT8: Int8Array;
  INT16: Int16Array;
  INT32: Int32Array;
  INT64: BigInt64Array;
  FP16: Float32Array;
  BF16: Float32Array;
  FP32: Float32Array;
  FP64: Float64Array;
  BYTES: (string | Uint8Array)[];
}

/** A value beside the tensors of a request or response. */
export type Parameter = boolean | number | string;

/** Tensors by name. */
export type Tensors = Record<string, Tensor>;

/** A failure that the caller of the model sees. Any other error is a mistake of the plugin's, and goes to the log too. */
export class PluginError extends Error {
  /** `code` is one of INVALID_ARGUMENT, NOT_FOUND, UNSUPPORTED, UNAVAILABLE, DEADLINE_EXCEEDED and INTERNAL. */
  constructor(code: string, message: string);
  readonly code: string;
  /** The caller can mend the request. */
  static invalid(message: string): PluginError;
  /** Something that the request names does not exist. */
  static notFound(message: string): PluginError;
  /** The plugin does not do what is asked for. */
  static unsupported(message: string): PluginError;
  /** The call cannot be served now; the caller may try again. */
  static unavailable(message: string): PluginError;
  /** The plugin failed. */
  static internal(message: string): PluginError;
}

/** An immutable, shaped, row-major array whose data stays with the host until it is read. */
export class Tensor {
  /** A tensor of values in row-major order. */
  constructor(
    datatype: Datatype,
    shape: Iterable<number>,
    values: Iterable<number> | Iterable<bigint> | Iterable<boolean> | Iterable<string | Uint8Array>,
  );
  /** A tensor of data in the protocol's raw layout: little-endian, each element of BYTES behind its length in 32 bits. */
  static fromRaw(datatype: Datatype, shape: Iterable<number>, data: Uint8Array): Tensor;
  readonly datatype: Datatype;
  readonly shape: number[];
  /** The number of elements. */
  readonly length: number;
  /** The data in the protocol's raw layout. */
  data(): Uint8Array;
  /** Some bytes of the data. */
  read(offset: number, length: number): Uint8Array;
  /** Another tensor over the same data, to hand one on and keep one; nothing is copied. */
  share(): Tensor;
  /** The numbers, yours to change: a typed array; of BOOL an array of booleans. */
  values(): any;
  /** The numbers row by row: the last dimension each time. */
  rows(): Generator<any>;
  /** The elements of a BYTES tensor. */
  elements(): Uint8Array[];
  /** The elements of a BYTES tensor as text. One that is not UTF-8 is the caller's mistake. */
  strings(): string[];
}

/** A request whose inputs the host has checked against the signature. */
export interface Request {
  /** The caller's id for the request. */
  id: string | undefined;
  /** The inputs. One that may be left out can be missing. */
  inputs: Tensors;
  /** What the caller sent besides. */
  parameters: Record<string, Parameter>;
  /** Whether the caller wants this output. What is not wanted need not be computed; where it is, the host drops it. */
  wants(output: string): boolean;
}

/** The answer to a request. A plugin may return a plain object of tensors in its place. */
export class Response {
  constructor(outputs?: Tensors, parameters?: Record<string, Parameter>);
  outputs: Tensors;
  parameters: Record<string, Parameter>;
}

/** The inputs and outputs of a model: `new Signature().input("x", "FP32", [ANY, 4]).output("y", "BYTES", [ANY])`. */
export class Signature {
  /** Adds an input. */
  input(name: string, datatype: Datatype, shape: Iterable<number>): this;
  /** Adds an input that a request may leave out. */
  optional(name: string, datatype: Datatype, shape: Iterable<number>): this;
  /** Adds an output. */
  output(name: string, datatype: Datatype, shape: Iterable<number>): this;
}

/** A graph of the model's package, computed natively by the host. */
export class Graph {
  /** The graph that model.toml names so. It was loaded with the model; nothing is loaded here. */
  constructor(name: string);
  /** Computes the graph. The inputs are handed over; calls of other requests may be computed along with this one. */
  compute(inputs: Tensors): Tensors;
}

/** A value of the `[config]` table of model.toml, as text. */
export function config(key: string): string | undefined;
export function config(key: string, otherwise: string): string;

/** A value of the environment that model.toml asks for (`[grants] env`) and the server gives. */
export function env(name: string): string | undefined;

/** A secret that model.toml asks for (`[grants] secrets`) and the server gives. Keep it out of the log and of answers. */
export function secret(name: string): string | undefined;

/** Calls another model of this server, which model.toml must grant (`[grants] models`), within this call's deadline. */
export function infer(model: string, inputs: Tensors, version?: string | null): Tensors;

/** The seconds left until the call's deadline; 0 once it has passed. */
export function remaining(): number;

/** Waits, while others run. The call ends at its deadline, however long this was to be. */
export function sleep(seconds: number): void;

/** The bytes of a text in UTF-8. */
export function encodeText(text: string): Uint8Array;

/** The text that bytes are in UTF-8; a RangeError where they are none. */
export function decodeText(bytes: Uint8Array): string;

/** Lines for the server's log, which adds the model's name and the request's id. `console` writes such lines too. */
export const log: Record<"trace" | "debug" | "info" | "warn" | "error", (...parts: unknown[]) => void>;
