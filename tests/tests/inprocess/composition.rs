//! What a call of another model takes over from the call that makes it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytesize::ByteSize;
use vespid_engine::{
    Call, Callers, Engine, EngineOptions, Grants, Peers, Plugin, PluginContext, PoolOptions,
};
use vespid_nn::Graphs;
use vespid_tests::archive::Archive;
use vespid_types::{
    Datatype, Deadline, Error, NamedTensor, Parameters, Priority, Request, Response, Shape, Signature,
    Tensor, Timeline,
};

/// The other models: they give back what they get, and keep how they were asked.
#[derive(Default)]
struct Echo(Mutex<Vec<(Request, Callers)>>);

impl Peers for Echo {
    fn infer(
        &self,
        mut request: Request,
        callers: Callers,
        _cause: &Arc<Timeline>,
    ) -> Pin<Box<dyn Future<Output = Result<Response, Error>> + Send + '_>> {
        let tensor = request.inputs.remove(0).tensor;
        let response = Response {
            model: request.model.name.clone(),
            version: "1".parse().unwrap(),
            id: None,
            parameters: Parameters::new(),
            outputs: vec![NamedTensor { name: "output".to_owned(), tensor }],
        };
        self.0.lock().unwrap().push((request, callers));
        Box::pin(std::future::ready(Ok(response)))
    }
}

#[tokio::test]
async fn the_deadline_the_priority_the_id_and_the_callers_go_on() {
    let cache = tempfile::tempdir().unwrap();
    let options = EngineOptions { code_cache: cache.path().to_owned(), max_instances: 2 };
    let engine = Engine::new(&options).unwrap();
    let others = Arc::new(Echo::default());
    let context = PluginContext {
        model: "relay".parse().unwrap(),
        version: "7".parse().unwrap(),
        written: Signature::default(),
        graphs: Graphs::default(),
        config: [("target".to_owned(), "other".to_owned())].into(),
        memory_limit: ByteSize::mib(16),
        instances: PoolOptions::default(),
        snapshot: None,
        grants: Grants { models: ["other".parse().unwrap()].into(), ..Grants::default() },
        peers: Some(Arc::clone(&others) as Arc<dyn Peers>),
    };
    let plugin = Plugin::compile(&engine, Archive::built("relay").data("relay.wasm"), context).unwrap();
    let tensor = Tensor::new(Datatype::Fp32, Shape::from(&[1][..]), vec![0; 4].into()).unwrap();
    let deadline = Deadline::after(Duration::from_secs(60));
    let call = Call {
        id: Some("mine".to_owned()),
        deadline,
        priority: Priority::BATCH,
        callers: Callers::default().and("first".parse().unwrap(), "1".parse().unwrap()),
        inputs: vec![NamedTensor { name: "input".to_owned(), tensor }],
        outputs: Vec::new(),
        parameters: Parameters::new(),
        sequence: None,
        timeline: Arc::default(),
    };
    let answer = plugin.call(call).await.unwrap();
    assert_eq!(answer.outputs[0].tensor.data().len(), 4);
    let asked = others.0.lock().unwrap();
    let [(request, callers)] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
    assert_eq!(request.deadline.map(Deadline::instant), Some(deadline.instant()));
    assert_eq!((request.priority, request.id.as_deref()), (Priority::BATCH, Some("mine")));
    assert_eq!(callers.to_string(), "first version 1 -> relay version 7");
}
