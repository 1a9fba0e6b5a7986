//! A file, a line an answer.
//!
//! Contract: lines are on the disk when they are acknowledged. A process that is killed while it writes may leave a line without an end, which the
//! next one ends before it writes.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use futures_util::future::BoxFuture;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::{Acked, Outgoing, Sink};
use crate::StreamError;
use crate::message::Record;
use crate::spec::FileSink;

struct Lines {
    answers: Mutex<Output>,
    dead: Option<Mutex<Output>>,
}

enum Output {
    Standard(tokio::io::Stdout),
    File(File),
}

pub(crate) async fn open(file: &FileSink) -> Result<Arc<dyn Sink>, StreamError> {
    let answers = Mutex::new(Output::open(&file.path, "sink.file.path").await?);
    let dead = match &file.dead_letter {
        Some(path) => Some(Mutex::new(Output::open(path, "sink.file.dead_letter").await?)),
        None => None,
    };
    Ok(Arc::new(Lines { answers, dead }))
}

impl Output {
    async fn open(path: &Path, field: &str) -> Result<Self, StreamError> {
        if path == Path::new("-") {
            return Ok(Self::Standard(tokio::io::stdout()));
        }
        let opened = async {
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(path).await?;
            if file.metadata().await?.len() > 0 {
                file.seek(std::io::SeekFrom::End(-1)).await?;
                let mut last = [0];
                file.read_exact(&mut last).await?;
                if last != *b"\n" {
                    file.write_all(b"\n").await?;
                }
            }
            Ok(file)
        };
        let opened: std::io::Result<File> = opened.await;
        opened.map(Self::File).map_err(|error| {
            StreamError::config(field, format!("{} cannot be written: {error}", path.display()))
        })
    }

    async fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Standard(output) => {
                output.write_all(text).await?;
                output.flush().await
            }
            Self::File(file) => {
                file.write_all(text).await?;
                file.flush().await?;
                file.sync_data().await
            }
        }
    }
}

impl Sink for Lines {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Acked, StreamError>> {
        Box::pin(async move {
            let (mut answers, mut dead) = (Vec::new(), Vec::new());
            for record in &outgoing.records {
                if record.dead {
                    let line = failed(record).to_string();
                    dead.extend_from_slice(line.as_bytes());
                    dead.push(b'\n');
                } else {
                    answers.extend_from_slice(record.payload.as_deref().unwrap_or_default());
                    answers.push(b'\n');
                }
            }
            let wrong = |error: std::io::Error| StreamError::Sink(error.to_string());
            if let (false, Some(output)) = (dead.is_empty(), &self.dead) {
                output.lock().await.write(&dead).await.map_err(wrong)?;
            }
            if !answers.is_empty() {
                self.answers.lock().await.write(&answers).await.map_err(wrong)?;
            }
            let acked: Acked = Box::pin(std::future::ready(Ok(Vec::new())));
            Ok(acked)
        })
    }
}

/// What the headers of a failed message say, and its bytes.
fn failed(record: &Record) -> serde_json::Value {
    let mut line = serde_json::Map::new();
    for header in &record.headers {
        let value = header.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned());
        let name = header.name.strip_prefix("vespid-").unwrap_or(&header.name);
        line.insert(name.to_owned(), value.into());
    }
    let payload = record.payload.as_deref().unwrap_or_default();
    match std::str::from_utf8(payload) {
        Ok(text) => line.insert("value".to_owned(), text.into()),
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(payload);
            line.insert("value_base64".to_owned(), text.into())
        }
    };
    line.into()
}
