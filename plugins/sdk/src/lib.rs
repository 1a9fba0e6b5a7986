//! Write a Vespid model plugin as a function over typed tensors.
//!
//! A plugin is a WebAssembly component. It says what it takes and gives ([`Model::describe`]) and answers requests
//! ([`Model::predict`]); [`export!`] makes the component of it. The arithmetic of a graph runs outside of the plugin,
//! natively: the plugin names the graph and hands it tensors ([`Graph`]).
//!
//! ```
//! use vespid_plugin::prelude::*;
//!
//! struct Iris;
//!
//! impl Model for Iris {
//!     fn describe() -> Result<Signature> {
//!         Ok(Signature::new()
//!             .input::<f32>("measurements", [ANY, 4])
//!             .output::<str>("species", [ANY])
//!             .output::<f32>("probabilities", [ANY, 3]))
//!     }
//!
//!     fn predict(request: Request) -> Result<Response> {
//!         let mut x = request.input("measurements")?.to_vec::<f32>()?;
//!         for row in x.chunks_exact_mut(4) {
//!             row.iter_mut().zip([5.8, 3.1, 3.8, 1.2]).for_each(|(value, mean)| *value -= mean);
//!         }
//!         let n = x.len() / 4;
//!         let mut outputs = Graph::load("iris")?.compute([("X", Tensor::new(&x, [n, 4])?)])?;
//!         let probabilities = outputs.take("probabilities")?;
//!         let species: Vec<&str> = probabilities
//!             .values::<f32>()?
//!             .chunks_exact(3)
//!             .map(|row| ["setosa", "versicolor", "virginica"][argmax(row)])
//!             .collect();
//!         Ok(Response::new()
//!             .output("species", Tensor::bytes(&species, [n])?)
//!             .output("probabilities", probabilities))
//!     }
//! }
//!
//! fn argmax(row: &[f32]) -> usize {
//!     (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
//! }
//!
//! vespid_plugin::export!(Iris);
//! #
//! # // On any other target than WebAssembly, the host is played by `testing`.
//! # vespid_plugin::testing::graph("iris", |_| Ok(vec![("probabilities", Tensor::new(&[0.1f32, 0.2, 0.7], [1, 3])?)]));
//! # let request = Request::new().with("measurements", Tensor::new(&[6.3f32, 3.3, 6.0, 2.5], [1, 4])?);
//! # let response = Iris::predict(request)?;
//! # assert_eq!(response.get("species").unwrap().to_strings()?, ["virginica"]);
//! # Ok::<(), Error>(())
//! ```
//!
//! # What crosses the border, and when
//! Tensors live with the host. A [`Tensor`] is a handle: taking one from the request and putting it into the response
//! or into a graph copies nothing. [`Tensor::values`] and [`Tensor::to_vec`] copy the data in once, [`Tensor::range`] and
//! [`Element::read`] copy a part of it, [`Tensor::new`] copies out once.
//!
//! # One instance a call
//! Each call gets a fresh instance of the plugin by default, so nothing is left behind in a static for the next one,
//! and whatever is initialised costs each call. Put constants into the code, and tables into `static`s built ahead.
//!
//! A table that only the running plugin can build is built once where the manifest has `[instances] snapshot = true`:
//! [`Model::describe`] builds it (in a `thread_local`, say), and every instance begins with the memory that is there when
//! `describe` ends. With `[instances] warm = 4`, up to four instances are kept between calls, and what a call leaves in a
//! static is there for the next caller: keep nothing there that is one caller's.
//!
//! # Sequences
//! With `[sequences]` in the manifest, one instance answers all requests of a sequence: what it keeps in a `thread_local`
//! is the sequence's. The first request has the parameter `sequence_start`, the last `sequence_end`.
//!
//! # Answering in pieces
//! A plugin that implements [`Streaming`] besides, and is exported with `export!(MyModel as Streaming)`, gives an iterator of
//! responses. Each is made when the caller has room for it; when the caller leaves, the rest is not made.
//!
//! # Reaching out
//! What a plugin reaches outside of its sandbox stands under `[grants]` in its manifest, and the server must allow it: other
//! models ([`infer`]), values of the environment ([`env`]), secrets ([`secret`]), hosts over HTTP (`http`, with the feature
//! of that name), and a folder of its package (`assets`, likewise).
//!
//! # Failing
//! [`Error`] has a code that the caller sees; [`Error::invalid`] is for what the caller can mend. A panic ends the call as
//! a failure of the plugin, and its message goes to the server's log.
//!
//! # Building
//! The crate type is `cdylib`, the target `wasm32-unknown-unknown`, the linker `wasm-component-ld`; `vespid build` does
//! it all. On any other target everything here works against a stand-in for the host, so that `cargo test` can call
//! the plugin: see `testing`.

#[cfg(feature = "assets")]
pub mod assets;
#[cfg(all(target_arch = "wasm32", feature = "assets"))]
#[doc(hidden)]
#[path = "assets/bindings.rs"]
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod assets_bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod bindings;
mod error;
mod graph;
#[cfg(all(target_arch = "wasm32", feature = "heap"))]
mod heap;
mod host;
#[cfg(feature = "http")]
pub mod http;
#[cfg(all(target_arch = "wasm32", feature = "http"))]
#[doc(hidden)]
#[path = "http/bindings.rs"]
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod http_bindings;
mod message;
mod scalar;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod session;
mod signature;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
pub mod streaming;
mod tensor;

#[cfg(target_arch = "wasm32")]
#[path = "sys/component.rs"]
mod sys;
#[cfg(not(target_arch = "wasm32"))]
#[path = "sys/native.rs"]
mod sys;

#[cfg(not(target_arch = "wasm32"))]
pub use sys::testing;

pub use error::{Code, Error, Result};
pub use graph::{Graph, Tensors};
pub use host::{config, config_as, env, infer, infer_version, remaining, secret, sleep};
pub use message::{Parameter, Request, Response};
pub use scalar::{Bf16, Datatype, F16, Kind, Scalar};
pub use signature::{ANY, Signature, TensorSpec};
pub use tensor::{Blobs, Element, Tensor, Values};

pub mod log {
    //! Lines for the server's log: `log::info!("{n} rows")`. The host adds the model's name and the request's id, cuts long
    //! lines and limits how many a call may write.
    pub use crate::host::Level;
    pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};
}

pub mod prelude {
    //! What nearly every plugin uses.
    pub use crate::{
        ANY, Code, Datatype, Element, Error, Graph, Model, Parameter, Request, Response, Result, Session,
        Signature, Streaming, Tensor, Tensors, config, config_as, env, infer, log, remaining, secret, sleep,
    };
}

/// A model: what it takes and gives, and how it answers.
pub trait Model {
    /// The inputs and outputs. Called once, when the model is loaded.
    fn describe() -> Result<Signature>;

    /// Answers one request, whose inputs the host has checked against the signature.
    fn predict(request: Request) -> Result<Response>;
}

/// A model that answers in pieces as well. Callers that want one answer still get it from [`Model::predict`].
pub trait Streaming: Model {
    /// Begins to answer one request, whose inputs the host has checked against the signature. Each response is made when
    /// it is asked for; after an error no more are.
    fn predict_stream(request: Request) -> Result<impl Iterator<Item = Result<Response>> + 'static>;
}

/// A model that keeps something of the requests of a sequence, which can be saved and taken up by another instance: a stream's keys move
/// with it from process to process.
pub trait Session: Model {
    /// What this instance keeps. Called between two requests.
    fn save() -> Result<Vec<u8>>;

    /// Goes on where [`Session::save`] was called, maybe by a version before this. Called before the first request, if at all.
    fn restore(state: &[u8]) -> Result<()>;
}

/// Makes the [`Model`] given the one that this component exports; with `as Streaming`, its [`Streaming`] too, with `as Session` its
/// [`Session`].
#[macro_export]
macro_rules! export {
    ($model:ty as Session) => {
        $crate::export!($model);
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the names that a component exports")]
        const _: () = {
            type Exported = $crate::__Exported<$model>;
    $crate::session::__export_keeper!(Exported with_types_in $crate::session);
        };
    };
    ($model:ty as Streaming) => {
        $crate::export!($model);
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the names that a component exports")]
        const _: () = {
            type Exported = $crate::__Exported<$model>;
    $crate::streaming::__export_streamer!(Exported with_types_in $crate::streaming);
        };
    };
    ($model:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the names that a component exports")]
        const _: () = {
            type Exported = $crate::__Exported<$model>;
    $crate::bindings::__export_plugin!(Exported with_types_in $crate::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Result<$crate::Signature> = <$model as $crate::Model>::describe;
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use sys::Exported as __Exported;

#[doc(hidden)]
pub use host::log as __log;
