//! The body of a gRPC call on its way to a pod, read along the way.
//!
//! Contract: frames go on as they come. A stream that is limited is admitted by the message: the first with the call, and of the others
//! each when it begins. One that is refused ends the stream before it, so that what came earlier is answered, and then the client is
//! told why. Cost: as of `scan`; for a message that a limit admits some atomics.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use bytes::Bytes;
use bytesize::ByteSize;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use vespid_auth::Principal;
use vespid_limits::Limited;
use vespid_types::Error;

use super::message::Named;
use super::scan::Scan;
use crate::answer::shutting_down;
use crate::memory::Memory;
use crate::patience::{Pause, did_not_go_on};
use crate::replay::EndedHere;

type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the beginning of a body may take.
pub(crate) struct Limits<'a> {
    /// Within how many bytes the model's name comes.
    pub(crate) within: ByteSize,
    /// Where these are held.
    pub(crate) memory: &'a Memory,
    /// How long a client may pause amid a message.
    pub(crate) pause: Duration,
}

/// A body whose first message has told its model.
pub(crate) struct Scanned {
    scan: Option<Scan>,
    read: VecDeque<Bytes>,
    /// What came in one piece with the end of the first message.
    unread: Bytes,
    rest: Body,
    pause: Pause,
    /// For streams: when the gateway ends, so do they, between two messages. Until then they may be idle there.
    stopped: Option<Stopped>,
    /// For streams: when what the caller showed is good no more, no further message is taken.
    expired: Option<(Pin<Box<Sleep>>, Error)>,
    /// For streams: by whom each further message is admitted.
    limited: Option<Arc<Limited>>,
    ended_here: EndedHere,
    ended: bool,
}

impl Scanned {
    /// Reads as much of a body as says which model it is for.
    ///
    /// # Errors
    /// What is wrong with the message, or that it does not come.
    pub(crate) async fn begin(
        mut rest: Body,
        mut scan: Scan,
        Limits { within, memory, pause }: Limits<'_>,
    ) -> Result<(Named, Self), Error> {
        let (mut read, mut unread, mut size) = (VecDeque::new(), Bytes::new(), 0_u64);
        let named = loop {
            if let Some(named) = scan.named() {
                break named.clone();
            }
            if size > within.as_u64() {
                let message =
                    format!("model_name: it does not come within the first {within} of the message");
                return Err(Error::invalid(message));
            }
            let frame = if scan.is_between() {
                rest.frame().await
            } else {
                timeout(pause, rest.frame()).await.map_err(|_| did_not_go_on(pause))?
            };
            let frame = frame.ok_or_else(|| Error::invalid("the call ended before its message had come"))?;
            let frame = frame.map_err(|error| Error::invalid("the call ended early").with_source(error))?;
            if let Ok(data) = frame.into_data() {
                size += data.len() as u64;
                let mut data = memory.hold(data)?;
                // A message that ends has told its model.
                unread = data.split_off(scan.read_one(&data)?);
                read.push_back(data);
            }
        };
        Ok((named, Self { scan: Some(scan), read, unread, ..Self::unread(rest, pause) }))
    }

    /// A body that is not read.
    pub(crate) fn unread(rest: Body, pause: Duration) -> Self {
        Self {
            scan: None,
            read: VecDeque::new(),
            unread: Bytes::new(),
            rest,
            pause: Pause::new(pause),
            stopped: None,
            expired: None,
            limited: None,
            ended_here: EndedHere::default(),
            ended: false,
        }
    }

    /// A stream, which ends when the gateway is told to end, and where one of its messages is not admitted.
    pub(crate) fn until(
        mut self,
        mut stopping: watch::Receiver<bool>,
        limited: Option<Arc<Limited>>,
    ) -> Self {
        self.limited = limited;
        self.stopped = Some(Box::pin(async move {
            // An error means that the sender is gone, and with it the gateway.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }));
        self
    }

    /// Ends it, between two messages, when what the caller showed is good no more.
    pub(crate) fn while_current(mut self, who: Option<&Principal>) -> Self {
        self.expired = who.and_then(|who| {
            let left = who.expires()?.duration_since(SystemTime::now()).unwrap_or_default();
            Some((Box::pin(sleep(left)), who.expired().into()))
        });
        self
    }

    /// Why it was ended here, once it was.
    pub(crate) fn ended_here(&self) -> EndedHere {
        Arc::clone(&self.ended_here)
    }

    fn is_between(&self) -> bool {
        self.read.is_empty() && self.scan.as_ref().is_none_or(Scan::is_between)
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(context);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.unread)))))
    }

    /// Ends it between two messages.
    fn end(&mut self, why: Error) {
        (self.ended, self.stopped) = (true, None);
        let _ = self.ended_here.set(why);
    }

    /// Reads what has come. Gives as much of it as goes on: all, but where the message that follows is not admitted.
    fn scan(&mut self, mut data: Bytes) -> Result<Bytes, Error> {
        let Some(scan) = &mut self.scan else { return Ok(data) };
        let mut read = 0;
        while let Some(rest) = data.get(read..).filter(|rest| !rest.is_empty()) {
            if let Some(limited) = self.limited.as_ref().filter(|_| scan.is_between())
                && let Err(refused) = limited.admit_further(vespid_limits::now())
            {
                data.truncate(read);
                self.end(refused);
                break;
            }
            read += scan.read_one(rest)?;
        }
        Ok(data)
    }
}

impl hyper::body::Body for Scanned {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(data) = this.read.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if this.is_between()
            && let Some(stopped) = &mut this.stopped
            && stopped.as_mut().poll(context).is_ready()
        {
            this.end(shutting_down());
            return Poll::Ready(None);
        }
        if this.is_between()
            && let Some((expired, why)) = &mut this.expired
            && expired.as_mut().poll(context).is_ready()
        {
            let why = why.clone();
            this.end(why);
            return Poll::Ready(None);
        }
        let frame = match this.poll_more(context) {
            Poll::Ready(Some(frame)) => frame,
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending if this.stopped.is_some() && this.is_between() => {
                // A stream may be idle.
                this.pause.stop();
                return Poll::Pending;
            }
            Poll::Pending => {
                let fault = ready!(this.pause.poll(context));
                this.ended = true;
                return Poll::Ready(Some(Err(axum::Error::new(fault))));
            }
        };
        this.pause.stop();
        let data = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        match this.scan(data) {
            Ok(data) if data.is_empty() && this.ended => Poll::Ready(None),
            Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(fault) => {
                this.ended = true;
                Poll::Ready(Some(Err(axum::Error::new(fault))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && (self.ended || self.unread.is_empty() && self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // Over HTTP/2 nobody has to know.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use prost::Message as _;
    use vespid_auth::{Denied, Identity, Kind};
    use vespid_types::BoxError;

    use super::*;
    use crate::grpc::message::tests::request;
    use crate::grpc::scan::Encoding;
    use crate::memory::PIECE;

    fn message(name: &str) -> Vec<u8> {
        let message = request(name, "").encode_to_vec();
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
    }

    fn body(pieces: Vec<Vec<u8>>, open: bool) -> Body {
        let pieces = stream::iter(pieces.into_iter().map(|piece| Ok::<_, BoxError>(Bytes::from(piece))));
        if open { Body::from_stream(pieces.chain(stream::pending())) } else { Body::from_stream(pieces) }
    }

    async fn begin(body: Body, within: u64) -> Result<(Named, Scanned), Error> {
        begin_with(body, within, &Memory::new(ByteSize::mib(1))).await
    }

    const PAUSE: Duration = Duration::from_millis(100);

    async fn begin_with(body: Body, within: u64, memory: &Memory) -> Result<(Named, Scanned), Error> {
        let limits = Limits { within: ByteSize(within), memory, pause: PAUSE };
        Scanned::begin(body, Scan::new(Encoding::Identity, ByteSize::mib(1)), limits).await
    }

    #[tokio::test]
    async fn what_was_read_goes_on_unchanged() {
        let bytes = [message("iris"), message("iris")].concat();
        let pieces: Vec<_> = bytes.chunks(3).map(<[u8]>::to_vec).collect();
        let (named, scanned) = begin(body(pieces, false), 1000).await.unwrap();
        assert_eq!(named.name, "iris");
        assert!(scanned.read.len() < 10, "it has read {} pieces", scanned.read.len());
        assert_eq!(scanned.collect().await.unwrap().to_bytes(), bytes);
    }

    #[tokio::test]
    async fn a_name_that_does_not_come_is_refused() {
        let late = [request("", "").encode_to_vec(), request("iris", "").encode_to_vec()].concat();
        let framed = [&[0][..], &u32::try_from(late.len()).unwrap().to_be_bytes(), &late].concat();
        let pieces: Vec<_> = framed.chunks(100).map(<[u8]>::to_vec).collect();
        assert!(begin(body(pieces.clone(), false), 1000).await.err().unwrap().message().contains("1000 B"));
        assert_eq!(begin(body(pieces, false), 1_000_000).await.unwrap().0.name, "iris");
        assert!(begin(body(vec![], false), 1000).await.err().unwrap().message().contains("ended before"));
    }

    #[tokio::test]
    async fn what_is_held_to_find_the_name_is_limited() {
        let memory = Memory::new(ByteSize(60 + 6 * PIECE as u64));
        let pieces = || body(message("iris").chunks(10).map(<[u8]>::to_vec).collect(), false);
        let (_, first) = begin_with(pieces(), 1000, &memory).await.unwrap();
        let _other = memory.take(60 - 20 + 4 * PIECE).unwrap();
        assert!(begin_with(pieces(), 1000, &memory).await.err().unwrap().is_refused());
        first.collect().await.unwrap();
        assert!(begin_with(pieces(), 1000, &memory).await.is_ok(), "what went on is not held any more");
    }

    #[tokio::test]
    async fn a_client_pauses_between_messages_and_not_amid_one() {
        let (_stop, stopping) = watch::channel(false);
        let half = message("iris")[..20].to_vec();
        let stalled = begin(body(vec![half[..7].to_vec()], true), 1000).await.err().unwrap();
        assert!(stalled.message().contains("did not go on"), "{stalled}");
        let begun = async |pieces| begin(body(pieces, true), 1000).await.unwrap().1;
        let idle = begun(vec![message("iris")]).await.until(stopping.clone(), None).collect();
        assert!(timeout(PAUSE * 4, idle).await.is_err());
        let amid = begun(vec![message("iris"), half]).await.until(stopping, None).collect().await;
        assert!(amid.unwrap_err().to_string().contains("did not go on"));
        // Who has sent the one message that there is has to say so.
        let unary = begun(vec![message("iris")]).await.collect().await;
        assert!(unary.unwrap_err().to_string().contains("did not go on"));
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_gateway_between_two_messages() {
        let (stop, stopping) = watch::channel(false);
        let half = message("iris")[..20].to_vec();
        let (_, scanned) =
            begin(body(vec![message("iris"), half, message("iris")[20..].to_vec()], true), 1000)
                .await
                .unwrap();
        let scanned = scanned.until(stopping, None);
        let ended_here = scanned.ended_here();
        stop.send_replace(true);
        let all = scanned.collect().await.unwrap().to_bytes();
        assert_eq!(all, message("iris"), "the message that has come, and no other");
        assert!(ended_here.get().is_some());
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_caller_is_known_no_more() {
        let (_stop, stopping) = watch::channel(false);
        let (kind, id) = (Kind::ApiKey, "ci".to_owned());
        let key = Identity { kind, id, issuer: None, tenant: None, roles: Vec::new() };
        let who = Principal::until(key, Some(SystemTime::now() + PAUSE));
        let begun = begin(body(vec![message("iris"), message("iris")], true), 1000).await.unwrap().1;
        let scanned = begun.until(stopping, None).while_current(Some(&who));
        let ended_here = scanned.ended_here();
        // It is idle, and is woken.
        let all = timeout(PAUSE * 50, scanned.collect()).await.unwrap().unwrap().to_bytes();
        assert_eq!(all, [message("iris"), message("iris")].concat());
        assert_eq!(ended_here.get().unwrap().message(), Denied::ExpiredApiKey.to_string());
    }
}
