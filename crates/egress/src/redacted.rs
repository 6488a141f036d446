//! A body on its way into the sandbox, with the stamps' values taken out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use domain::redact::Redactor;
use hyper::body::{Body, Frame, Incoming};

use crate::policy::Policy;

/// Trailers are dropped: nothing that is stamped for needs them.
pub(crate) struct Redacted {
    inner: Incoming,
    policy: Arc<Policy>,
    /// What may be the beginning of a value.
    held: BytesMut,
    ended: bool,
}

impl Redacted {
    pub(crate) fn new(inner: Incoming, policy: Arc<Policy>) -> Self {
        Self { inner, policy, held: BytesMut::new(), ended: false }
    }
}

fn redact(redactor: &Redactor, bytes: Bytes) -> Bytes {
    redactor.redact(&bytes).map_or(bytes, Bytes::from)
}

impl Body for Redacted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        while !this.ended {
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    this.held.extend_from_slice(&data);
                    let settled = this.policy.redactor().settled(&this.held);
                    if settled > 0 {
                        let passed = this.held.split_to(settled).freeze();
                        return Poll::Ready(Some(Ok(Frame::data(redact(this.policy.redactor(), passed)))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.ended = true,
            }
        }
        let rest = std::mem::take(&mut this.held).freeze();
        let rest = (!rest.is_empty()).then(|| Ok(Frame::data(redact(this.policy.redactor(), rest))));
        Poll::Ready(rest)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && (self.ended || self.inner.is_end_stream())
    }
}
