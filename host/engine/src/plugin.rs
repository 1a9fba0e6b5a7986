//! One plugin, bound to its model's graphs, limits and grants: a component, or a command.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use vespid_nn::Graphs;
use vespid_types::{
    Deadline, ModelName, NamedTensor, Parameters, Priority, Request, Response, Sequence, Signature, Timeline,
    Version,
};

use crate::command::{Command, Module};
use crate::component::{Component, Held, Linked, Responses};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::grants::Grants;
use crate::meter::PluginUsage;
use crate::pool::PoolOptions;

/// A boxed future, for the one trait that is called through a pointer.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Other models of this server, for plugins that call them.
pub trait Peers: Send + Sync {
    /// Predicts with another model. `callers` are the models whose calls led here, the last of which asks, and `cause` is its
    /// call. A model that is among them already is refused.
    fn infer(
        &self,
        request: Request,
        callers: Callers,
        cause: &Arc<Timeline>,
    ) -> BoxFuture<'_, Result<Response, vespid_types::Error>>;
}

/// The models, the first one first, that called each other until one made a call. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Callers(Option<Arc<Caller>>);

#[derive(Debug)]
struct Caller {
    model: ModelName,
    version: Version,
    before: Callers,
}

impl Callers {
    /// These, and then this one.
    #[must_use]
    pub fn and(self, model: ModelName, version: Version) -> Self {
        Self(Some(Arc::new(Caller { model, version, before: self })))
    }

    /// How many there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.backwards().count()
    }

    /// Whether no other model led to the call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Checks that this model is not one of them: one that calls itself, by whatever way, would do so again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with all of them and the one that comes back.
    pub fn check(&self, model: &ModelName, version: Version) -> Result<(), vespid_types::Error> {
        let back = self.backwards().any(|caller| caller.model == *model && caller.version == version);
        if !back {
            return Ok(());
        }
        let message = format!(
            "models call each other in a circle: {self} -> {model} version {version}; leave one of the calls out"
        );
        Err(vespid_types::Error::new(vespid_types::ErrorCode::PermissionDenied, message))
    }

    fn backwards(&self) -> impl Iterator<Item = &Caller> {
        std::iter::successors(self.0.as_deref(), |caller| caller.before.0.as_deref())
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callers: Vec<&Caller> = self.backwards().collect();
        for (place, Caller { model, version, .. }) in callers.into_iter().rev().enumerate() {
            let arrow = if place == 0 { "" } else { " -> " };
            write!(f, "{arrow}{model} version {version}")?;
        }
        Ok(())
    }
}

/// What a plugin is bound to: its model's identity, and what its calls may reach and use up.
pub struct PluginContext {
    /// The model's name.
    pub model: ModelName,
    /// The model's version.
    pub version: Version,
    /// The signature that the manifest writes; a command has no other.
    pub written: Signature,
    /// What `load-by-name` finds.
    pub graphs: Graphs,
    /// What `config` finds.
    pub config: BTreeMap<String, String>,
    /// How much memory a call may use, linear memories and host-side tensors together.
    pub memory_limit: ByteSize,
    /// What is kept of it between calls.
    pub instances: PoolOptions,
    /// Whether instances begin where `describe` ended, and how long that may take once. A component's.
    pub snapshot: Option<Duration>,
    /// What it may reach outside of its sandbox.
    pub grants: Grants,
    /// How other models are reached; none where the server offers none.
    pub peers: Option<Arc<dyn Peers>>,
}

/// One call's own facts.
pub struct Call {
    /// The request's id, as its caller gave it.
    pub id: Option<String>,
    /// When nobody waits any more.
    pub deadline: Deadline,
    /// Its turn in the lanes of graphs.
    pub priority: Priority,
    /// The models whose calls led to this one.
    pub callers: Callers,
    /// The inputs.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; all of them where empty.
    pub outputs: Vec<String>,
    /// The request's parameters.
    pub parameters: Parameters,
    /// Its place in a sequence, which the plugin gets to see.
    pub sequence: Option<Sequence>,
    /// Is told how far it is.
    pub timeline: Arc<Timeline>,
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// The outputs in the plugin's order, not yet checked against the signature.
    pub outputs: Vec<NamedTensor>,
    /// Parameters of the response.
    pub parameters: Parameters,
}

/// The compiled code of a plugin: a component's imports are found, and its exports. Clones are the same; so models with
/// the same code share it.
#[derive(Clone)]
pub struct Code(CodeKind);

#[derive(Clone)]
enum CodeKind {
    Component(Arc<Linked>),
    Command(Arc<Module>),
}

impl Code {
    /// Compiles `code`, or takes what was compiled from the cache. A core module is a command; everything else is taken
    /// for a component. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], or what keeps it from being a plugin: its imports or its exports.
    pub fn compile(engine: &Engine, code: &[u8]) -> Result<Self, EngineError> {
        Ok(Self(if code.starts_with(MODULE) {
            CodeKind::Command(Arc::new(Module::compile(engine, code)?))
        } else {
            CodeKind::Component(Arc::new(Linked::new(engine, code)?))
        }))
    }

    /// The bytes that it takes up.
    #[must_use]
    pub fn memory(&self) -> u64 {
        match &self.0 {
            CodeKind::Component(linked) => linked.size(),
            CodeKind::Command(module) => module.size(),
        }
    }
}

/// A compiled plugin, ready to be called.
pub struct Plugin(Kind);

enum Kind {
    Component(Component),
    Command(Box<Command>),
}

/// What a core module begins with; a component has another version.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

impl Plugin {
    /// Compiles `code` for one model alone. Blocks; where the context asks for a snapshot, within a runtime.
    ///
    /// # Errors
    /// As [`Code::compile`] and [`Plugin::new`]; [`EngineError::Snapshot`].
    pub fn compile(engine: &Engine, code: &[u8], context: PluginContext) -> Result<Self, EngineError> {
        let snapshot = context.snapshot;
        let plugin = Self::new(engine, &Code::compile(engine, code)?, context)?;
        match (plugin.0, snapshot) {
            (Kind::Component(component), Some(limit)) => {
                Ok(Self(Kind::Component(component.initialised(code, Deadline::after(limit))?)))
            }
            (kind, _) => Ok(Self(kind)),
        }
    }

    /// Binds code to a model. A snapshot is not made.
    ///
    /// # Errors
    /// What the manifest asks for and a command does not have.
    pub fn new(engine: &Engine, code: &Code, context: PluginContext) -> Result<Self, EngineError> {
        Ok(Self(match &code.0 {
            CodeKind::Component(linked) => {
                Kind::Component(Component::new(engine, Arc::clone(linked), context)?)
            }
            CodeKind::Command(module) => Kind::Command(Box::new(Command::new(engine, module, context)?)),
        }))
    }

    /// The bytes of its code, which other models may share.
    #[must_use]
    pub fn code_memory(&self) -> u64 {
        match &self.0 {
            Kind::Component(component) => component.linked().size(),
            Kind::Command(command) => command.module().size(),
        }
    }

    /// The bytes of the instances that are kept and idle.
    #[must_use]
    pub fn idle_memory(&self) -> u64 {
        match &self.0 {
            Kind::Component(component) => component.idle_memory(),
            Kind::Command(_) => 0,
        }
    }

    /// What its calls have used up so far.
    #[must_use]
    pub fn usage(&self) -> PluginUsage {
        match &self.0 {
            Kind::Component(component) => component.usage(),
            Kind::Command(command) => command.usage(),
        }
    }

    /// Its inputs and outputs: a component is asked, a command's stand in the manifest.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn describe(&self, deadline: Deadline) -> Result<Signature, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.describe(deadline).await,
            Kind::Command(command) => Ok(command.signature()),
        }
    }

    /// Answers one request, in a fresh instance unless the manifest has some kept.
    ///
    /// # Errors
    /// What the plugin answers ([`EngineError::Answered`], [`EngineError::Exited`]), a trap, a limit, or the deadline.
    pub async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.call(call).await,
            Kind::Command(command) => command.call(call).await,
        }
    }

    /// Answers one request of a sequence in the instance that is held for it, or in a fresh one where none is. Afterwards
    /// `held` is empty if the instance can answer no more: after a trap, an overrun, or where this future is dropped.
    ///
    /// # Errors
    /// As [`Plugin::call`]; [`EngineError::TooManyHeld`].
    pub async fn call_held(&self, held: &mut Option<Held>, call: Call) -> Result<Answer, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.call_held(held, call).await,
            Kind::Command(_) => Err(EngineError::NothingHeld),
        }
    }

    /// Whether instances can be held between calls. A command's cannot: it runs once.
    #[must_use]
    pub fn can_be_held(&self) -> bool {
        matches!(self.0, Kind::Component(_))
    }

    /// Whether what an instance keeps can be saved, and taken up by another.
    #[must_use]
    pub fn saves(&self) -> bool {
        match &self.0 {
            Kind::Component(component) => component.saves(),
            Kind::Command(_) => false,
        }
    }

    /// What the instance that is held keeps. Afterwards `held` is empty if it can answer no more.
    ///
    /// # Errors
    /// As [`Plugin::call_held`]; [`EngineError::NoSession`] for a plugin that cannot.
    pub async fn save(&self, held: &mut Option<Held>, deadline: Deadline) -> Result<Bytes, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.save(held, deadline).await,
            Kind::Command(_) => Err(EngineError::NoSession),
        }
    }

    /// An instance that goes on where [`Plugin::save`] was called, and is held.
    ///
    /// # Errors
    /// As [`Plugin::save`]; [`EngineError::Answered`] where the plugin does not take the state.
    pub async fn restore(&self, state: &[u8], deadline: Deadline) -> Result<Held, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.restore(state, deadline).await,
            Kind::Command(_) => Err(EngineError::NoSession),
        }
    }

    /// Whether it answers in pieces.
    #[must_use]
    pub fn streams(&self) -> bool {
        match &self.0 {
            Kind::Component(component) => component.streams(),
            Kind::Command(_) => false,
        }
    }

    /// Begins to answer one request in pieces, which [`Plugin::next`] gets. The call's deadline is that of all of them.
    ///
    /// # Errors
    /// As [`Plugin::call`]; [`EngineError::NoStream`] for a plugin that does not [stream](Plugin::streams).
    pub async fn stream(&self, call: Call) -> Result<Responses, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.stream(call).await,
            Kind::Command(_) => Err(EngineError::NoStream),
        }
    }

    /// The next piece of an answer; none after the last, or after a failure.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub async fn next(&self, responses: &mut Responses) -> Result<Option<Answer>, EngineError> {
        match &self.0 {
            Kind::Component(component) => component.next(responses).await,
            Kind::Command(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_called_before_is_found_by_name_and_version() {
        let version = |number: &str| number.parse::<Version>().unwrap();
        let name = |name: &str| name.parse::<ModelName>().unwrap();
        let callers = Callers::default().and(name("a"), version("1")).and(name("b"), version("2"));
        assert_eq!((callers.depth(), callers.to_string().as_str()), (2, "a version 1 -> b version 2"));
        assert!(callers.check(&name("c"), version("1")).is_ok());
        assert!(callers.check(&name("a"), version("2")).is_ok());
        let error = callers.check(&name("a"), version("1")).unwrap_err();
        assert!(error.message().contains("circle: a version 1 -> b version 2 -> a version 1"), "{error}");
        assert!(Callers::default().is_empty() && Callers::default().check(&name("a"), version("1")).is_ok());
    }
}
