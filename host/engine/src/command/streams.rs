//! A command's standard output and error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use super::state::Shared;
use crate::log::MAX_LINE;

/// Where the output's data comes from: kept, and charged to the call.
#[derive(Clone)]
pub(super) struct Stdout(pub(super) Shared);

/// Goes to the server's log.
#[derive(Clone)]
pub(super) struct Stderr(pub(super) Shared);

/// A line that the guest has begun, without what is too long to be logged.
#[derive(Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    /// Takes `data` up to the end of the line, and gives the line where that came.
    pub(super) fn take(&mut self, data: &mut &[u8]) -> Option<String> {
        let end = data.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match end.and_then(|end| data.split_at_checked(end)) {
            Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
            None => (*data, &[][..]),
        };
        let room = MAX_LINE.saturating_sub(self.0.len());
        self.0.extend_from_slice(line.get(..room).unwrap_or(line));
        *data = rest;
        end.map(|_| self.text())
    }

    /// Ends a line that has been begun.
    pub(super) fn end(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.text())
    }

    fn text(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.0).trim_end_matches('\r').to_owned();
        self.0.clear();
        line
    }
}

/// What takes a guest's writes at once.
trait Sink: Clone + Send + Sync + Unpin + 'static {
    /// `false` where the call has no memory left for it.
    fn put(&self, data: &[u8]) -> bool;
}

impl Sink for Stdout {
    fn put(&self, data: &[u8]) -> bool {
        self.0.lock().write(data)
    }
}

impl Sink for Stderr {
    fn put(&self, data: &[u8]) -> bool {
        self.0.lock().report(data);
        true
    }
}

/// A stream onto a sink: the library's traits are not ours to implement for every [`Sink`].
struct Onto<S>(S);

/// The most that is taken at once.
const PERMIT: usize = 64 << 10;

#[async_trait]
impl<S: Sink> Pollable for Onto<S> {
    async fn ready(&mut self) {}
}

#[async_trait]
impl<S: Sink> OutputStream for Onto<S> {
    fn write(&mut self, data: Bytes) -> Result<(), StreamError> {
        if self.0.put(&data) {
            return Ok(());
        }
        Err(StreamError::Trap(wasmtime::format_err!("no memory is left for what it writes")))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(PERMIT)
    }
}

impl<S: Sink> AsyncWrite for Onto<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(if self.0.put(data) { Ok(data.len()) } else { Err(io::ErrorKind::OutOfMemory.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The library's traits for a standard stream, written once for both.
macro_rules! standard_stream {
    ($($stream:ident),*) => {
        $(
            impl IsTerminal for $stream {
                fn is_terminal(&self) -> bool {
                    false
                }
            }

            impl StdoutStream for $stream {
                fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
                    Box::new(Onto(self.clone()))
                }

                fn p2_stream(&self) -> Box<dyn OutputStream> {
                    Box::new(Onto(self.clone()))
                }
            }
        )*
    };
}

standard_stream!(Stdout, Stderr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cut() {
        let mut line = Line::default();
        let mut taken = Vec::new();
        let long = "x".repeat(MAX_LINE + 10);
        for mut data in ["one\r\ntw".as_bytes(), b"", b"o\n\n", long.as_bytes(), b"y\nend"] {
            taken.extend(std::iter::from_fn(|| line.take(&mut data)));
        }
        taken.extend(line.end());
        assert_eq!(taken, ["one", "two", "", &long[..MAX_LINE], "end"]);
        assert_eq!(line.end(), None);
    }
}
