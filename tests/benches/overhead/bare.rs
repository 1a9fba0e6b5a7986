//! The same component called through wasmtime alone: pooling allocator, synchronous, no limits, no deadline, no checks.
//! It is the floor that the engine is measured against.

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, Resource, ResourceType,
    TypedFunc,
};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// Stands for a tensor on the host's side.
struct Tensor;

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct NamedTensor {
    name: String,
    tensor: Resource<Tensor>,
}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum Parameter {
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "number")]
    Number(f64),
    #[component(name = "text")]
    Text(String),
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Request {
    id: Option<String>,
    inputs: Vec<NamedTensor>,
    outputs: Vec<String>,
    parameters: Vec<(String, Parameter)>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Response {
    outputs: Vec<NamedTensor>,
    parameters: Vec<(String, Parameter)>,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifted, never made")]
enum ErrorCode {
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "unsupported")]
    Unsupported,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "deadline-exceeded")]
    DeadlineExceeded,
    #[component(name = "internal")]
    Internal,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted, never read")]
struct Error {
    code: ErrorCode,
    message: String,
}

/// An instance of the component with its own store.
pub(crate) struct Instance {
    store: Store<()>,
    predict: TypedFunc<(Request,), (Result<Response, Error>,)>,
}

/// The component, ready to be instantiated.
pub(crate) struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
    predict: ComponentExportIndex,
}

impl Bare {
    pub(crate) fn new(component: &[u8]) -> Self {
        let mut config = Config::new();
        let mut pool = PoolingAllocationConfig::new();
        // As the engine sets it, so that the two differ in nothing but what the engine adds.
        pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20).pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, component).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        let mut tensors = linker.instance("vespid:model/tensors@0.1.0").unwrap();
        tensors.resource("tensor", ResourceType::host::<Tensor>(), |_, _| Ok(())).unwrap();
        linker.define_unknown_imports_as_traps(&component).unwrap();
        let pre = linker.instantiate_pre(&component).unwrap();
        let model = component.get_export_index(None, "vespid:model/model@0.1.0").unwrap();
        let predict = component.get_export_index(Some(&model), "predict").unwrap();
        Self { engine, pre, predict }
    }

    /// A fresh instance.
    pub(crate) fn instance(&self) -> Instance {
        let mut store = Store::new(&self.engine, ());
        let instance = self.pre.instantiate(&mut store).unwrap();
        let predict = instance.get_typed_func(&mut store, self.predict).unwrap();
        Instance { store, predict }
    }
}

impl Instance {
    /// One call that hands its only input back.
    pub(crate) fn call(&mut self) {
        let input = NamedTensor { name: "input".to_owned(), tensor: Resource::new_own(1) };
        let request = Request { id: None, inputs: vec![input], outputs: vec![], parameters: vec![] };
        let (response,) = self.predict.call(&mut self.store, (request,)).unwrap();
        let response = response.unwrap_or_else(|error| panic!("{}", error.message));
        assert!(response.outputs.len() == 1 && response.parameters.is_empty());
    }
}
