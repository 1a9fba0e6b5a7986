//! The thread that writes the audit.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::AccessError;
use crate::config::AuditTarget;
use crate::count::{Count, Counts};

/// Who may read the file: the process's user alone.
const MODE: u32 = 0o600;

/// Lines that came together are written together, up to so much.
const TOGETHER: usize = 64 * 1024;

/// How often it is looked whether the file is still in its place.
const LOOK: Duration = Duration::from_secs(1);

pub(super) enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

pub(super) struct Writer {
    target: Target,
    counts: Arc<Counts>,
    /// Whether the last line in the file may be half a line.
    is_torn: bool,
}

enum Target {
    File { path: PathBuf, file: File, looked: Instant },
    Stdout,
}

impl Writer {
    pub(super) fn open(target: AuditTarget, counts: Arc<Counts>) -> Result<Self, AccessError> {
        let target = match target {
            AuditTarget::Stdout => Target::Stdout,
            AuditTarget::File(path) => {
                let file = open(&path).map_err(|error| AccessError::file(&path, error))?;
                Target::File { path, file, looked: Instant::now() }
            }
        };
        Ok(Self { target, counts, is_torn: false })
    }

    /// Until nobody is left who might write.
    pub(super) fn run(mut self, mut incoming: mpsc::Receiver<Message>) {
        let mut lines = Vec::new();
        let mut count = 0;
        while let Some(message) = incoming.blocking_recv() {
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        lines.extend_from_slice(&line);
                        count += 1;
                    }
                    Message::Flush(done) => {
                        self.write(&mut lines, &mut count);
                        self.sync();
                        // Who does not wait any more need not know.
                        let _ = done.send(());
                    }
                }
                next = if lines.len() < TOGETHER { incoming.try_recv().ok() } else { None };
            }
            self.write(&mut lines, &mut count);
        }
        self.sync();
    }

    fn write(&mut self, lines: &mut Vec<u8>, count: &mut u64) {
        if *count > 0 {
            if let Err(error) = self.try_write(lines) {
                (0..*count).for_each(|_| self.counts.add(Count::AuditLost));
                tracing::error!(%error, count, "lines of the audit are lost");
            }
            lines.clear();
            *count = 0;
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        let is_torn = std::mem::replace(&mut self.is_torn, true);
        match &mut self.target {
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()?;
            }
            Target::File { path, file, looked } => {
                let mut is_new = false;
                if looked.elapsed() >= LOOK {
                    *looked = Instant::now();
                    if !is_in_place(path, file) {
                        *file = open(path)?;
                        is_new = true;
                    }
                }
                if is_torn && !is_new {
                    file.write_all(b"\n")?;
                }
                file.write_all(lines)?;
            }
        }
        self.is_torn = false;
        Ok(())
    }

    fn sync(&self) {
        if let Target::File { path, file, .. } = &self.target
            && let Err(error) = file.sync_data()
            // Pipes and such have nothing to write through.
            && error.kind() != io::ErrorKind::InvalidInput
        {
            tracing::warn!(%error, file = %path.display(), "the audit may not be on the disk");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn is_in_place(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}
