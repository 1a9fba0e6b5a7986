//! A stand-in for the host, so that a plugin's tests can call it on the machine that builds it.

use std::rc::Rc;
use std::time::Duration;

use crate::host::Level;
use crate::{Datatype, Error, Result, Tensors};

pub(crate) struct Tensor {
    datatype: Datatype,
    shape: Vec<u64>,
    data: Vec<u8>,
}

impl Tensor {
    pub(crate) fn new(datatype: Datatype, shape: &[u64], data: &[u8]) -> Result<Self> {
        let tensor = Self { datatype, shape: shape.to_vec(), data: data.to_vec() };
        let fits = match tensor.width() {
            Some(width) => shape.iter().product::<u64>() * width == tensor.byte_length(),
            None => tensor.elements().is_ok_and(|elements| elements.len() as u64 == shape.iter().product()),
        };
        if fits {
            return Ok(tensor);
        }
        Err(Error::internal(format!("{} bytes are not the data of {datatype} {shape:?}", data.len())))
    }

    /// The size of an element; that of BYTES varies.
    fn width(&self) -> Option<u64> {
        match self.datatype {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }

    pub(crate) fn datatype(&self) -> Datatype {
        self.datatype
    }

    pub(crate) fn shape(&self) -> Vec<u64> {
        self.shape.clone()
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.data.len() as u64
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.data.clone()
    }

    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let part = offset.checked_add(length).and_then(|end| {
            self.data.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?).map(<[u8]>::to_vec)
        });
        part.ok_or_else(|| {
            Error::internal(format!(
                "{length} bytes from {offset} are not within {} bytes",
                self.byte_length()
            ))
        })
    }

    pub(crate) fn share(&self) -> Result<Self> {
        Self::new(self.datatype, &self.shape, &self.data)
    }

    pub(crate) fn elements(&self) -> Result<Vec<(u64, u64)>> {
        let mut elements = Vec::new();
        let mut offset = 0;
        while offset < self.byte_length() {
            let prefix = self.read(offset, 4)?;
            let length = prefix.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
            offset += 4;
            elements.push((offset, length));
            offset += length;
        }
        if offset == self.byte_length() {
            Ok(elements)
        } else {
            Err(Error::internal("the last element is cut off"))
        }
    }
}

pub(crate) struct Graph {
    compute: Rc<testing::Answer>,
}

impl Graph {
    pub(crate) fn load(name: &str) -> Result<Self> {
        testing::with(|host| host.graphs.get(name).cloned())
            .map(|compute| Self { compute })
            .ok_or_else(|| Error::internal("this test has given none of that name to `testing::graph`"))
    }

    pub(crate) fn compute(&self, inputs: impl Iterator<Item = (String, crate::Tensor)>) -> Result<Tensors> {
        (self.compute)(inputs.collect())
    }
}

pub(crate) fn config(key: &str) -> Option<String> {
    testing::with(|host| host.config.get(key).cloned())
}

pub(crate) fn env(name: &str) -> Option<String> {
    testing::with(|host| host.env.get(name).cloned())
}

pub(crate) fn secret(name: &str) -> Option<String> {
    testing::with(|host| host.secrets.get(name).cloned())
}

pub(crate) fn log(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

pub(crate) fn remaining() -> Duration {
    Duration::from_secs(1)
}

pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

pub(crate) fn infer(
    model: &str,
    _version: Option<&str>,
    inputs: impl Iterator<Item = (String, crate::Tensor)>,
) -> Result<Tensors> {
    let answer = testing::with(|host| host.models.get(model).cloned());
    let answer = answer.ok_or_else(|| Error::not_found(format!("this test has given no model '{model}'")))?;
    answer(inputs.collect())
}

#[cfg(feature = "http")]
pub(crate) mod http {
    use super::testing;
    use crate::http::{Request, Response};
    use crate::{Error, Result};

    pub(crate) fn send(request: Request) -> Result<Response> {
        let answer = testing::with(|host| host.http.clone());
        answer.ok_or_else(|| Error::internal("this test has given nothing to `testing::http`"))?(&request)
    }
}

#[cfg(feature = "assets")]
pub(crate) mod assets {
    use super::testing;
    use crate::{Error, Result};

    pub(crate) fn read(path: &str) -> Result<Vec<u8>> {
        testing::with(|host| host.assets.get(path).cloned())
            .ok_or_else(|| Error::internal("this test has given none of that name to `testing::asset`"))
    }
}

pub mod testing {
    //! The host of a plugin's own tests, on any target but WebAssembly: graphs, models, configuration and grants that the test
    //! gives. Each belongs to the thread, so that tests do not see one another's.

    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;

    use crate::{Result, Tensor, Tensors};

    pub(super) type Answer = dyn Fn(Tensors) -> Result<Tensors>;

    #[derive(Default)]
    pub(super) struct Host {
        pub(super) graphs: HashMap<String, Rc<Answer>>,
        pub(super) models: HashMap<String, Rc<Answer>>,
        pub(super) config: HashMap<String, String>,
        pub(super) env: HashMap<String, String>,
        pub(super) secrets: HashMap<String, String>,
        #[cfg(feature = "http")]
        pub(super) http: Option<Rc<Http>>,
        #[cfg(feature = "assets")]
        pub(super) assets: HashMap<String, Vec<u8>>,
    }

    #[cfg(feature = "http")]
    type Http = dyn Fn(&crate::http::Request) -> Result<crate::http::Response>;

    thread_local! {
        static HOST: RefCell<Host> = RefCell::default();
    }

    pub(super) fn with<T>(action: impl FnOnce(&mut Host) -> T) -> T {
        HOST.with_borrow_mut(action)
    }

    /// Lets [`Graph::load`](crate::Graph::load) find a graph that computes this.
    pub fn graph(name: &str, compute: impl Fn(Tensors) -> Result<Vec<(&'static str, Tensor)>> + 'static) {
        with(|host| host.graphs.insert(name.to_owned(), answer(compute)));
    }

    /// Lets [`infer`](crate::infer) find a model that answers this.
    pub fn model(name: &str, predict: impl Fn(Tensors) -> Result<Vec<(&'static str, Tensor)>> + 'static) {
        with(|host| host.models.insert(name.to_owned(), answer(predict)));
    }

    /// Sets a value of the manifest's `[config]` table.
    pub fn config(key: &str, value: &str) {
        with(|host| host.config.insert(key.to_owned(), value.to_owned()));
    }

    /// Sets a value of the environment.
    pub fn env(name: &str, value: &str) {
        with(|host| host.env.insert(name.to_owned(), value.to_owned()));
    }

    /// Sets a secret.
    pub fn secret(name: &str, value: &str) {
        with(|host| host.secrets.insert(name.to_owned(), value.to_owned()));
    }

    /// Answers what the plugin asks over [HTTP](crate::http).
    #[cfg(feature = "http")]
    pub fn http(answer: impl Fn(&crate::http::Request) -> Result<crate::http::Response> + 'static) {
        with(|host| host.http = Some(Rc::new(answer)));
    }

    /// Puts a file into the folder that [`assets`](crate::assets) reads.
    #[cfg(feature = "assets")]
    pub fn asset(path: &str, content: impl Into<Vec<u8>>) {
        with(|host| host.assets.insert(path.to_owned(), content.into()));
    }

    fn answer(function: impl Fn(Tensors) -> Result<Vec<(&'static str, Tensor)>> + 'static) -> Rc<Answer> {
        Rc::new(move |inputs| {
            Ok(function(inputs)?.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
        })
    }
}
