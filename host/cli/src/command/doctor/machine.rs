//! What the machine has: processors, memory, a folder for what is kept.

use std::{fs, thread};

use super::Check;
use crate::ui;

/// Below this a server with one small model is short of room.
const SCANT_MEMORY: u64 = 512 << 20;

pub(super) fn processors() -> Check {
    const NAME: &str = "processors";
    match thread::available_parallelism() {
        Ok(n) => Check::ok(NAME, format!("{n} usable, {}", std::env::consts::ARCH)),
        Err(error) => Check::warn(NAME, error.to_string(), "set the number of threads in the configuration"),
    }
}

pub(super) fn memory() -> Check {
    const NAME: &str = "memory";
    let Some(total) = physical() else {
        return Check::ok(NAME, "not told by this system");
    };
    // In a container the group's limit counts, not the machine's size.
    let (usable, of) = match limit() {
        Some(limit) if limit < total => (limit, "usable, the limit of the control group"),
        _ => (total, "in all"),
    };
    let detail = format!("{} {of}", ui::size(usable));
    if usable < SCANT_MEMORY {
        return Check::warn(NAME, detail, "give it 512 MiB or more");
    }
    Check::ok(NAME, detail)
}

pub(super) fn cache() -> Check {
    const NAME: &str = "cache";
    let remedy = "set VESPID_CACHE to a folder that can be written to";
    let folder = match vespid_toolchain::cache_dir() {
        Ok(folder) => folder,
        Err(error) => return Check::warn(NAME, error.to_string(), remedy),
    };
    let usable = fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
    match usable {
        Ok(_) => Check::ok(NAME, folder.display().to_string()),
        Err(error) => Check::warn(NAME, format!("{}: {error}", folder.display()), remedy),
    }
}

fn physical() -> Option<u64> {
    total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of this process's own control group (version 2), as containers have it.
fn limit() -> Option<u64> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_memory_is_read() {
        assert_eq!(total("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing of the kind"), None);
    }
}
