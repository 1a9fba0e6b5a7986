//! The lines of a file or of standard input, for trying out.
//!
//! Contract: each line that is not blank is a message, whose offset is the line's number from 0. How far it was read is kept in a file
//! of its own, where one is named. Cost: a thread.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{CHUNK_BYTES, CHUNK_MESSAGES, CHUNKS, Chunk, Event, Inbox, Lag, Source, Started};
use crate::StreamError;
use crate::message::{Message, Partition};
use crate::spec::FileSource;

/// How often it is looked whether a file that is followed has grown.
const LOOK: Duration = Duration::from_millis(100);

/// A line that is longer is no message.
const MAX_LINE: u64 = 64 << 20;

struct Lines {
    position: Option<PathBuf>,
    /// From which line the thread is to begin.
    begin: std::sync::Mutex<Option<oneshot::Sender<i64>>>,
}

pub(crate) async fn open(file: &FileSource) -> Result<(Arc<dyn Source>, mpsc::Receiver<Event>), StreamError> {
    let shown = file.path.display().to_string();
    let input: Box<dyn Read + Send> = match shown.as_str() {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&file.path).map_err(|error| {
            StreamError::config("source.file.path", format!("{shown} cannot be read: {error}"))
        })?),
    };
    let partition = Partition { topic: shown.as_str().into(), index: 0 };
    let (events, coming) = mpsc::channel(4);
    let (output, chunks) = mpsc::channel(CHUNKS);
    let (begin, beginning) = oneshot::channel();
    let inbox = Inbox::new(chunks, Arc::new(|| ()));
    let assigned = Event::Assigned(vec![(partition, inbox)]);
    // The channel has room.
    drop(events.send(assigned).await);
    let follow = file.follow;
    let read = move || {
        let Ok(first) = beginning.blocking_recv() else { return };
        let ended = match read(BufReader::with_capacity(1 << 16, input), first, follow, &output) {
            Ok(()) => Event::Ended,
            Err(error) => Event::Failed(StreamError::Source(format!("{shown}: {error}"))),
        };
        drop(output);
        drop(events.blocking_send(ended));
    };
    let thread = std::thread::Builder::new().name("lines".to_owned()).spawn(read);
    thread.map_err(|error| StreamError::Internal(format!("no thread for lines: {error}")))?;
    let begin = std::sync::Mutex::new(Some(begin));
    Ok((Arc::new(Lines { position: file.position.clone(), begin }), coming))
}

/// Reads until the end, or until nobody wants more.
fn read(
    mut input: BufReader<impl Read>,
    first: i64,
    follow: bool,
    output: &mpsc::Sender<Chunk>,
) -> std::io::Result<()> {
    let (mut line, mut number) = (Vec::new(), 0);
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    loop {
        let read = (&mut input).take(MAX_LINE + 1 - line.len() as u64).read_until(b'\n', &mut line)?;
        let whole = line.ends_with(b"\n") || (read == 0 && !follow && !line.is_empty());
        if !whole && line.len() as u64 > MAX_LINE {
            let reason = format!("line {} is longer than 64 MiB", number + 1);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
        }
        if whole {
            let text = line.trim_ascii();
            if !text.is_empty() && number >= first {
                bytes += text.len();
                chunk.push(message(number, text));
            }
            number += 1;
            line.clear();
        }
        // Whatever has been read already goes together.
        let more = read > 0 && !input.buffer().is_empty();
        if !chunk.is_empty() && (chunk.len() >= CHUNK_MESSAGES || bytes >= CHUNK_BYTES || !more) {
            bytes = 0;
            if output.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return Ok(());
            }
        }
        if read == 0 && !whole {
            match follow {
                true if output.is_closed() => return Ok(()),
                true => std::thread::sleep(LOOK),
                false => return Ok(()),
            }
        }
    }
}

fn message(number: i64, text: &[u8]) -> Message {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Message {
        offset: number,
        id: number,
        timestamp: i64::try_from(now.as_millis()).ok(),
        key: None,
        payload: Some(Bytes::copy_from_slice(text)),
        headers: Vec::new(),
    }
}

impl Source for Lines {
    fn start(&self, _: Partition, from: Option<i64>) -> BoxFuture<'_, Result<Started, StreamError>> {
        Box::pin(async move {
            let committed = match &self.position {
                Some(file) => position(file)?,
                None => None,
            };
            let first = [from, committed].into_iter().flatten().min().unwrap_or_default();
            let begin = self.begin.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(begin) = begin {
                // The thread is gone where the process ends.
                let _ = begin.send(first);
            }
            Ok(Started { committed, as_asked: from == Some(first) })
        })
    }

    fn commit(&self, positions: Vec<(Partition, i64)>) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async move {
            let (Some(file), Some((_, position))) = (self.position.clone(), positions.into_iter().next())
            else {
                return Ok(());
            };
            let shown = file.display().to_string();
            let written = tokio::task::spawn_blocking(move || write(&file, position)).await;
            let written = written.map_err(|error| StreamError::Internal(error.to_string()))?;
            written.map_err(|error| StreamError::Source(format!("{shown}: {error}")))
        })
    }

    fn lag(&self) -> Vec<Lag> {
        Vec::new()
    }
}

fn position(file: &Path) -> Result<Option<i64>, StreamError> {
    let wrong =
        |reason: String| StreamError::config("source.file.position", format!("{}: {reason}", file.display()));
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| wrong("it holds no line number".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn write(file: &Path, position: i64) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(new, "{position}")?;
    new.as_file().sync_data()?;
    new.persist(file)?;
    Ok(())
}
