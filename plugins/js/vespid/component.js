// What the component exports: plugin.js, as the host calls it. `vespid build` names this file; a plugin does not.

import { PluginError, Response, Tensor, log } from "./index.js";

globalThis.console = { ...log, log: log.info };

const CODES = {
  INVALID_ARGUMENT: "invalid-argument",
  NOT_FOUND: "not-found",
  UNSUPPORTED: "unsupported",
  UNAVAILABLE: "unavailable",
  DEADLINE_EXCEEDED: "deadline-exceeded",
};

/** Turns what the plugin throws into what the caller is told, and the log what is a mistake of the plugin's. */
function answering(work) {
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
