//! The code of a plugin.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use vespid_engine::{Code, Engine, EngineOptions};

use crate::check::is_clients;

/// What is compiled takes time by its length.
const LONGEST: usize = 64 << 10;

static CACHE: LazyLock<PathBuf> = LazyLock::new(|| crate::package::folder().keep());

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = EngineOptions { code_cache: CACHE.clone(), max_instances: 1 };
    Engine::new(&options).expect("an engine")
});

/// A plugin's file, as it is compiled when a model is loaded: a component or a command.
pub fn component(data: &[u8]) {
    if data.len() > LONGEST {
        return;
    }
    match Code::compile(&ENGINE, data) {
        Ok(code) => {
            assert!(code.memory() > 0);
            // What the engine keeps would fill the disk.
            for entry in fs::read_dir(&*CACHE).expect("the cache").flatten() {
                fs::remove_file(entry.path()).expect("an entry");
            }
        }
        Err(error) => {
            is_clients(error.code());
            assert!(!error.to_string().is_empty());
        }
    }
}
