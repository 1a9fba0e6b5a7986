// Does all that the SDK can: see ../README.md.

import { ANY, Graph, PluginError, Response, Signature, Tensor, config, infer, log, remaining, sleep } from "vespid";

const DATATYPES = [
  "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES",
];

export function describe() {
  const signature = new Signature();
  for (const datatype of DATATYPES) {
    const name = datatype.toLowerCase();
    signature.optional(name, datatype, [ANY]).output(name, datatype, [ANY]);
  }
  return signature.output("said", "BYTES", [ANY]);
}

function copied(tensor) {
  const values = tensor.datatype === "BYTES" ? tensor.elements() : tensor.values();
  return new Tensor(tensor.datatype, tensor.shape, values);
}

function said(...words) {
  return { said: new Tensor("BYTES", [words.length], words.map(String)) };
}

export function predict(request) {
  const what = request.parameters.do;
  if (what !== undefined) {
    return actions[what](request);
  }
  const outputs = Object.entries(request.inputs).map(([name, tensor]) => [name, copied(tensor)]);
  return { ...Object.fromEntries(outputs), ...(request.wants("said") ? said("copied") : {}) };
}

const actions = {
  refuse() {
    throw PluginError.unavailable("come back later");
  },
  fail() {
    return undefined.x;
  },
  config: () => said(config("greeting"), config("number"), config("other") ?? "None", config("other", "default")),
  parameters: ({ id, parameters }) =>
    new Response(said(id), { yes: true, whole: 3, half: 0.5, text: String(parameters.text) }),
  log() {
    for (const level of ["trace", "debug", "info", "warn", "error"]) {
      log[level](`a line of ${level}`);
    }
    console.log("a line that was printed");
    return said();
  },
  graph() {
    new Graph("none");
  },
  infer() {
    const numbers = new Tensor("BYTES", [1, 16], [...Array(16).keys()].map(String));
    const ones = new Tensor("BYTES", [1, 16], Array(16).fill("1"));
    const { OUTPUT0 } = infer("simple_string", { INPUT0: numbers, INPUT1: ones });
    return { said: Tensor.fromRaw(OUTPUT0.datatype, OUTPUT0.shape.slice(1), OUTPUT0.data()) };
  },
  denied() {
    infer("iris", {});
  },
  twice() {
    const tensor = new Tensor("UINT8", [1], [1]);
    tensor._take();
    return { uint8: tensor };
  },
  mismatch: () => ({ uint8: new Tensor("UINT8", [2], [1]) }),
  text: ({ inputs }) => said(...inputs.bytes.strings()),
  wait() {
    const begun = Date.now();
    const left = remaining();
    sleep(0.05);
    return said(Date.now() - begun >= 49, 0 < remaining() && remaining() <= left - 0.05);
  },
  random: () => said(Math.random()),
  share({ inputs }) {
    const handed = inputs.uint8.share();
    return { uint8: handed, ...said(...inputs.uint8.values()) };
  },
  rows({ inputs }) {
    const sums = [...inputs.int32.rows()].map((row) => row.reduce((sum, value) => sum + value));
    return said(...sums, inputs.int32.read(0, 4).join() === "1,0,0,0");
  },
};

export function* predictStream({ parameters }) {
  for (let place = 0; place < (parameters.pieces ?? 2); place++) {
    if (place === 5) throw PluginError.invalid("five pieces are enough");
    // A caller that names no outputs wants all of them.
    const nothing = DATATYPES.map((datatype) => [datatype.toLowerCase(), new Tensor(datatype, [0], [])]);
    yield { ...Object.fromEntries(nothing), ...said(place) };
  }
}
