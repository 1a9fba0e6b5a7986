//! Compiled code, kept between runs.
//!
//! Contract: an entry is the machine code of one file of WebAssembly, made by this very engine: its name is the digest of
//! both. What it holds is loaded only where its own digest, over its name and its content, is at its head: one that is damaged, cut off,
//! another's, or another engine's under this one's name is compiled anew and replaced. An entry appears whole or not at all, so
//! that processes may share the folder. The entries that were used longest ago go when all are more than [`MAX_BYTES`]. Why
//! not wasmtime's own cache: it runs what it finds under the right name. What this does not keep out is who writes entries with their digests into
//! the folder on purpose: the folder is the server's, as its program is. Cost: an entry is read and hashed, which takes a
//! fraction of what compiling does.
#![allow(
    unsafe_code,
    reason = "machine code is loaded from a file; the one use says why it is this engine's own"
)]

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rayon::ThreadPool;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Result as WasmResult};

/// Bytes of all entries.
const MAX_BYTES: u64 = 1 << 30;

/// Bytes of a digest.
const DIGEST: usize = 32;

/// What an entry is called while it is written.
const WRITING: &str = "writing-";

/// The folder of compiled code.
pub(crate) struct CodeCache {
    folder: PathBuf,
    /// Entries that were written by this process, for names of their own while they are.
    written: AtomicU64,
}

/// What is compiled: its kind is a part of the name.
pub(crate) trait Compiled: Sized {
    const KIND: &str;

    fn compile(engine: &Engine, code: &[u8]) -> WasmResult<Self>;

    fn serialize(&self) -> WasmResult<Vec<u8>>;

    /// # Safety
    /// As wasmtime has it: the bytes are what `serialize` gave.
    unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> WasmResult<Self>;
}

/// Both of wasmtime's kinds, which have the same functions and no trait for them.
macro_rules! compiled {
    ($kind:ident) => {
        impl Compiled for $kind {
            const KIND: &str = stringify!($kind);

            fn compile(engine: &Engine, code: &[u8]) -> WasmResult<Self> {
                $kind::from_binary(engine, code)
            }

            fn serialize(&self) -> WasmResult<Vec<u8>> {
                $kind::serialize(self)
            }

            unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> WasmResult<Self> {
                // SAFETY: the caller's to see to.
                unsafe { $kind::deserialize(engine, bytes) }
            }
        }
    };
}

compiled!(Component);
compiled!(Module);

impl CodeCache {
    /// Opens the folder, which is made where it is not there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), written: AtomicU64::default() })
    }

    /// The compiled code, from the folder, or made by the threads of `compiler`. That the folder cannot be read or written costs
    /// time alone.
    pub(crate) fn get<T: Compiled + Send>(
        &self,
        engine: &Engine,
        compiler: &ThreadPool,
        code: &[u8],
    ) -> WasmResult<T> {
        let key = key::<T>(engine, code);
        let file = self.folder.join(hex(&key));
        if let Some(found) = self.load(engine, &key, &file) {
            return Ok(found);
        }
        let made: T = compiler.install(|| T::compile(engine, code))?;
        if let Err(error) = made.serialize().and_then(|bytes| Ok(self.put(&key, &file, &bytes)?)) {
            tracing::warn!("compiled code is not kept: {error:#}");
        }
        Ok(made)
    }

    fn load<T: Compiled>(&self, engine: &Engine, key: &[u8; DIGEST], file: &Path) -> Option<T> {
        let entry = fs::read(file).ok()?;
        let (digest, bytes) = entry.split_at_checked(DIGEST)?;
        if digest != seal(key, bytes) {
            tracing::warn!(file = %file.display(), "an entry of the code cache is not what was put there: it is made anew");
            return None;
        }
        // SAFETY: the bytes are those that `put` was given under this key, which only `get` does with what this engine's
        // version and settings serialised: the digest over both says so. Who writes a digest as well is not to be kept out
        // here: the folder is as trusted as the program.
        let found = unsafe { T::deserialize(engine, bytes) };
        // The time of its last use; where it cannot be set, the entry goes earlier.
        let _ = File::options().write(true).open(file).and_then(|file| file.set_modified(SystemTime::now()));
        found.ok()
    }

    fn put(&self, key: &[u8; DIGEST], file: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let writing = self.folder.join(format!("{WRITING}{}-{number}", std::process::id()));
        let entry = [&seal(key, bytes)[..], bytes].concat();
        let put = fs::write(&writing, entry).and_then(|()| fs::rename(&writing, file));
        if put.is_err() {
            let _ = fs::remove_file(&writing);
        }
        put?;
        self.make_room(MAX_BYTES)
    }

    /// Removes the entries that were used longest ago, until there are no more than so many bytes; also what other versions
    /// and processes that have ended left.
    fn make_room(&self, limit: u64) -> io::Result<()> {
        let file = |entry: fs::DirEntry| {
            let about = entry.metadata().ok()?;
            about.is_file().then(|| Some((about.modified().ok()?, about.len(), entry.path())))?
        };
        let mut files: Vec<_> = fs::read_dir(&self.folder)?.flatten().filter_map(file).collect();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        files.sort();
        for (_, length, path) in files {
            if total <= limit {
                break;
            }
            // Another process may have been quicker.
            let _ = fs::remove_file(path);
            total = total.saturating_sub(length);
        }
        Ok(())
    }
}

/// What an entry is called: the code, and all of the engine that machine code depends on.
fn key<T: Compiled>(engine: &Engine, code: &[u8]) -> [u8; DIGEST] {
    let mut hash = Hashing(Sha256::new());
    T::KIND.hash(&mut hash);
    engine.precompile_compatibility_hash().hash(&mut hash);
    let Hashing(mut hash) = hash;
    hash.update(code);
    hash.finalize().into()
}

/// What stands at the head of an entry.
fn seal(key: &[u8; DIGEST], bytes: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(bytes);
    hash.finalize().into()
}

fn hex(key: &[u8; DIGEST]) -> String {
    vespid_types::Digest::new(*key).hex()
}

/// Takes what a value hashes.
struct Hashing(Sha256);

impl Hasher for Hashing {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Config;

    use super::*;

    const ONE: &str = "(module (func (export \"f\") (result i32) i32.const 1))";
    const TWO: &str = "(module (func (export \"f\") (result i32) i32.const 2))";

    fn entries(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn get(cache: &CodeCache, engine: &Engine, code: &[u8]) -> WasmResult<Module> {
        let compiler = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        cache.get(engine, &compiler, code)
    }

    fn call(engine: &Engine, module: &Module) -> i32 {
        let mut store = wasmtime::Store::new(engine, ());
        let instance = wasmtime::Instance::new(&mut store, module, &[]).unwrap();
        instance.get_typed_func::<(), i32>(&mut store, "f").unwrap().call(&mut store, ()).unwrap()
    }

    #[test]
    fn an_entry_that_is_not_what_was_put_there_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CodeCache::open(folder.path()).unwrap();
        let [one, two] = [ONE, TWO].map(|text| wat::parse_str(text).unwrap());
        get(&cache, &engine, &one).unwrap();
        let [first] = &entries(folder.path())[..] else { panic!("one entry") };
        let good = fs::read(first).unwrap();
        get(&cache, &engine, &two).unwrap();
        let second = entries(folder.path()).into_iter().find(|entry| entry != first).unwrap();
        let foreign = fs::read(&second).unwrap();

        let mut flipped = good.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let unsealed = good[DIGEST..].to_vec();
        for planted in [foreign, flipped, unsealed, good[..good.len() / 2].to_vec(), Vec::new(), vec![0; 100]]
        {
            fs::write(first, planted).unwrap();
            assert_eq!(call(&engine, &get(&cache, &engine, &one).unwrap()), 1);
            assert_eq!(fs::read(first).unwrap(), good, "the right one is in its place again");
        }
    }

    #[test]
    fn what_another_engine_compiled_is_another_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path()).unwrap();
        let one = wat::parse_str(ONE).unwrap();
        let other = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        get(&cache, &Engine::default(), &one).unwrap();
        get(&cache, &other, &one).unwrap();
        let [first, second] = &entries(folder.path())[..] else { panic!("two entries") };
        // Under the other's name, as it is and with a seal that fits: the engine itself refuses it.
        let key = key::<Module>(&other, &one);
        let (own, others) = if first.ends_with(hex(&key)) { (first, second) } else { (second, first) };
        let bytes = fs::read(others).unwrap()[DIGEST..].to_vec();
        for planted in [fs::read(others).unwrap(), [&seal(&key, &bytes)[..], &bytes].concat()] {
            fs::write(own, planted).unwrap();
            assert!(get(&cache, &other, &one).is_ok());
            assert_ne!(fs::read(own).unwrap()[DIGEST..], bytes, "it is compiled anew");
        }
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path()).unwrap();
        for (age, name) in [(3, "a"), (1, "b"), (2, "c")] {
            let path = folder.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().write(true).open(&path).unwrap().set_modified(used).unwrap();
        }
        cache.make_room(150).unwrap();
        assert_eq!(entries(folder.path()), [folder.path().join("b")]);
    }
}
