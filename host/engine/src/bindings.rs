//! Host bindings generated from `wit/`. `compute`, `infer` and `sleep` are async: they suspend the instance's fiber, never a
//! thread. The WIT itself documents what is generated here.
#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "vespid:model/every-plugin",
    imports: {
        "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
        "vespid:model/host.infer": async | trappable,
        "vespid:model/host.sleep": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:nn/errors.error": crate::host::nn::NnFailure,
        "wasi:nn/tensor.tensor": crate::host::nn::NnTensor,
        "wasi:nn/graph.graph": crate::host::nn::NnGraph,
        "wasi:nn/inference.graph-execution-context": crate::host::nn::NnContext,
        "vespid:model/tensors.tensor": crate::host::tensors::GuestTensor,
    },
});
