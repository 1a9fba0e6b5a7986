// What the component exports: plugin.js, as the host calls it. `vespid build` names this file; a plugin does not.

import host from "vespid:model/host@0.1.0";
import { PluginError, Response, Tensor, log } from "./index.js";

globalThis.console = { ...log, log: log.info };

const CODES = {
  INVALID_ARGUMENT: "invalid-argument",
  NOT_FOUND: "not-found",
  UNSUPPORTED: "unsupported",
  UNAVAILABLE: "unavailable",
  DEADLINE_EXCEEDED: "deadline-exceeded",
};

let begun = false;

/** Once in each instance: QuickJS has drawn its seed when the plugin was built, and all would draw the same numbers. */
function begin() {
  begun = true;
  const now = Date.now();
  // sfc32, which is no more fit for secrets than Math.random is anywhere.
  let [a, b, c, counter] = [now | 0, (now / 2 ** 32) | 0, host.remaining() | 0, 1];
  const draw = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let round = 0; round < 12; round++) draw();
  Math.random = () => ((draw() >>> 5) * 2 ** 26 + (draw() >>> 6)) / 2 ** 53;
}

/** Turns what the plugin throws into what the caller is told, and the log what is a mistake of the plugin's. */
function answering(work) {
  if (!begun) begin();
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PluginError)) {
      log.error(error);
    }
    const message = error instanceof PluginError ? error.message : String(error);
    throw { code: CODES[error?.code] ?? "internal", message };
  }
}

function received(request) {
  const inputs = {};
  for (const { name, tensor } of request.inputs) {
    inputs[name] = Tensor._of(tensor);
  }
  const parameters = {};
  for (const [name, { val }] of request.parameters) {
    parameters[name] = val;
  }
  const asked = request.outputs;
  return {
    id: request.id ?? undefined,
    inputs,
    parameters,
    wants: (output) => asked.length === 0 || asked.includes(output),
  };
}

function parameter(value) {
  switch (typeof value) {
    case "boolean":
      return { tag: "boolean", val: value };
    case "number":
      return Number.isSafeInteger(value) ? { tag: "integer", val: value } : { tag: "number", val: value };
    default:
      return { tag: "text", val: String(value) };
  }
}

function sent(answer) {
  const response = answer instanceof Response ? answer : new Response(answer);
  return {
    outputs: Object.entries(response.outputs).map(([name, tensor]) => ({ name, tensor: tensor._take() })),
    parameters: Object.entries(response.parameters).map(([name, value]) => [name, parameter(value)]),
  };
}

export function model(plugin) {
  return {
    describe: () =>
      answering(() => {
        const { inputs, outputs } = plugin.describe();
        return { inputs, outputs };
      }),
    predict: (request) => answering(() => sent(plugin.predict(received(request)))),
  };
}

export function streaming(plugin) {
  class Responses {
    constructor(responses) {
      this.responses = responses;
    }

    next() {
      return answering(() => {
        const { done, value } = this.responses.next();
        return done ? null : sent(value);
      });
    }
  }
  return {
    Responses,
    predictStream: (request) =>
      answering(() => new Responses(plugin.predictStream(received(request))[Symbol.iterator]())),
  };
}
