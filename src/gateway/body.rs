//! Bodies on their way, in both directions: a few parts at a time, so that whoever is slow slows the other down. A
//! body that breaks off never looks like one that has ended.

use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Parts of a body that are between two connections, each as large as what was read at once.
const PARTS_ON_THE_WAY: usize = 4;

/// A body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BrokenOff;

/// What is on the way. A channel that closes without an end has broken off.
enum Part {
    Data(Bytes),
    End,
}

/// How sending a caller's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadEnd {
    /// All of it was taken.
    Complete,
    /// It is larger than it may be.
    TooLarge,
    /// The caller went away.
    CallerGone,
    /// The caller sends nothing.
    CallerTooSlow,
    /// The upstream takes nothing.
    UpstreamTooSlow,
    /// The upstream wants no more of it.
    UpstreamGone,
}

/// A caller's body as the upstream gets it.
pub struct UploadBody {
    parts: Option<mpsc::Receiver<Part>>,
    length: Option<u64>,
}

/// Takes a caller's body.
pub struct Uploader(mpsc::Sender<Part>);

impl UploadBody {
    /// No body.
    pub fn none() -> Self {
        Self {
            parts: None,
            length: Some(0),
        }
    }

    /// A body that comes from elsewhere; its length when that is known.
    pub fn piped(length: Option<u64>) -> (Uploader, Self) {
        let (to, from) = mpsc::channel(PARTS_ON_THE_WAY);
        let body = Self {
            parts: Some(from),
            length,
        };
        (Uploader(to), body)
    }
}

impl Uploader {
    /// Sends the caller's body on, until it has ended one way or another.
    pub async fn send<E>(
        self,
        body: impl Stream<Item = Result<Bytes, E>>,
        idle_timeout: Duration,
        max_bytes: u64,
    ) -> UploadEnd {
        let Self(to) = self;
        let mut body = pin!(body);
        let mut bytes = 0_u64;
        loop {
            let part = tokio::select! {
                part = tokio::time::timeout(idle_timeout, body.next()) => part,
                () = to.closed() => return UploadEnd::UpstreamGone,
            };
            let (part, is_last) = match part {
                Err(_) => return UploadEnd::CallerTooSlow,
                Ok(Some(Err(_))) => return UploadEnd::CallerGone,
                Ok(Some(Ok(data))) => {
                    bytes = bytes.saturating_add(data.len() as u64);
                    (Part::Data(data), false)
                }
                Ok(None) => (Part::End, true),
            };
            if bytes > max_bytes {
                return UploadEnd::TooLarge;
            }
            match tokio::time::timeout(idle_timeout, to.send(part)).await {
                Err(_) => return UploadEnd::UpstreamTooSlow,
                Ok(Err(_)) => return UploadEnd::UpstreamGone,
                Ok(Ok(())) if is_last => return UploadEnd::Complete,
                Ok(Ok(())) => {}
            }
        }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        match parts.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Part::Data(data))) => {
                if let Some(length) = &mut self.length {
                    *length = length.saturating_sub(data.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Part::End)) => {
                self.parts = None;
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.parts = None;
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// How often whoever reads from the upstream gets a turn to hand over what it has.
const TURNS: usize = 2;

/// What there is of a body already. Most answers are whole by the time their head is seen: they can go to the caller
/// in one piece.
#[derive(Debug)]
pub enum AtHand {
    /// Nothing yet.
    Nothing,
    /// Its first part.
    Data(Bytes),
    /// It has ended.
    End,
    /// It has broken off.
    BrokenOff,
}

/// Looks what there is of a body, and waits for nothing.
pub async fn at_hand(body: &mut Incoming) -> AtHand {
    for _ in 0..TURNS {
        match std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await {
            Poll::Pending => tokio::task::yield_now().await,
            Poll::Ready(None) => return AtHand::End,
            Poll::Ready(Some(Err(_))) => return AtHand::BrokenOff,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return AtHand::Data(data),
                _ => {}
            },
        }
    }
    AtHand::Nothing
}

/// An upstream's body as the caller gets it, behind what was at hand. While it is on the way, `permit` is not given back; a caller that takes
/// nothing for `idle_timeout` loses it.
pub fn download(
    first: Option<Bytes>,
    mut body: Incoming,
    idle_timeout: Duration,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static {
    let (to, from) = mpsc::channel(PARTS_ON_THE_WAY);
    if let Some(first) = first {
        // There is room for it.
        let _ = to.try_send(Part::Data(first));
    }
    // On its own, for a caller that takes nothing does not ask for more either.
    tokio::spawn(async move {
        let _permit = permit;
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let frame = tokio::select! {
                frame = tokio::time::timeout(idle_timeout, frame) => frame,
                () = to.closed() => return,
            };
            let part = match frame {
                Err(_) | Ok(Some(Err(_))) => return,
                Ok(None) => Part::End,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    // An empty chunk would be the last one (RFC 9112 §7.1).
                    Ok(data) if !data.is_empty() => Part::Data(data),
                    // Trailers (RFC 9110 §6.5.1 allows to drop them).
                    _ => continue,
                },
            };
            let is_last = matches!(part, Part::End);
            let sent = tokio::time::timeout(idle_timeout, to.send(part)).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    });
    futures_util::stream::unfold(Some(from), |from| async move {
        let mut from = from?;
        match from.recv().await {
            Some(Part::Data(data)) => Some((Ok(data), Some(from))),
            Some(Part::End) => None,
            None => Some((Err(BrokenOff), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    const SOON: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn received(mut body: UploadBody) -> Result<Vec<u8>, BrokenOff> {
        let mut all = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            all.extend(frame?.into_data().unwrap());
        }
        Ok(all)
    }

    fn parts(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::iter(parts.to_vec()).map(|part| Ok(Bytes::from_static(part.as_bytes())))
    }

    #[tokio::test]
    async fn a_body_arrives_whole_and_ends() {
        let (uploader, body) = UploadBody::piped(None);
        let (end, received) = tokio::join!(uploader.send(parts(&["a", "b", "c"]), PATIENCE, 3), received(body));
        assert_eq!(end, UploadEnd::Complete);
        assert_eq!(received.unwrap(), b"abc");
        assert!(UploadBody::none().is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_breaks_off() {
        let (uploader, body) = UploadBody::piped(None);
        let (end, received) = tokio::join!(uploader.send(parts(&["ab", "cd"]), PATIENCE, 3), received(body));
        assert_eq!(end, UploadEnd::TooLarge);
        assert!(received.is_err());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_or_falls_silent_breaks_its_body_off() {
        let (uploader, body) = UploadBody::piped(None);
        let gone = stream::iter([Ok(Bytes::from_static(b"a")), Err(BrokenOff)]);
        let (end, broken) = tokio::join!(uploader.send(gone, PATIENCE, 9), received(body));
        assert_eq!(end, UploadEnd::CallerGone);
        assert!(broken.is_err());

        let (uploader, body) = UploadBody::piped(None);
        let silent = parts(&["a"]).chain(stream::pending());
        let (end, broken) = tokio::join!(uploader.send(silent, SOON, 9), received(body));
        assert_eq!(end, UploadEnd::CallerTooSlow);
        assert!(broken.is_err());
    }

    #[tokio::test]
    async fn an_upstream_that_takes_nothing_holds_few_parts_up_and_not_for_ever() {
        let (uploader, body) = UploadBody::piped(None);
        let end = uploader.send(
            stream::repeat(Ok::<_, Infallible>(Bytes::from_static(b"a"))),
            SOON,
            u64::MAX,
        );
        assert_eq!(end.await, UploadEnd::UpstreamTooSlow);
        assert_eq!(body.parts.as_ref().unwrap().len(), PARTS_ON_THE_WAY);

        let (uploader, body) = UploadBody::piped(None);
        drop(body);
        let end = uploader.send(parts(&["a"]).chain(stream::pending()), PATIENCE, 9);
        assert_eq!(end.await, UploadEnd::UpstreamGone);
    }
}
