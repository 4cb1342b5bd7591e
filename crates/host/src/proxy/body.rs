//! Bodies on their way: the caller's to the plugin, bounded and watched; the plugin's to the caller, watched, giving its
//! connection back at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::connection::{Connection, Pool, Pulse};
use super::traffic::Traffic;
use crate::tap::{Answering, Exchange};

/// What became of an upload, for those who wait for the answer.
#[derive(Debug, Default)]
pub(super) struct UploadState {
    ended: AtomicBool,
    too_large: AtomicBool,
    broken: AtomicBool,
    waits_for_caller: AtomicBool,
    changed: Notify,
}

impl UploadState {
    /// Whether the caller sent more than the bound.
    pub(super) fn too_large(&self) -> bool {
        self.too_large.load(Relaxed)
    }

    /// Whether the caller's body broke off.
    pub(super) fn broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Whether the next bytes were the caller's to send.
    pub(super) fn waits_for_caller(&self) -> bool {
        self.waits_for_caller.load(Relaxed)
    }

    /// Waits until the body was handed over, or given up.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.ended.load(Relaxed) {
                return;
            }
            changed.await;
        }
    }

    fn end(&self) {
        self.ended.store(true, Relaxed);
        self.changed.notify_waiters();
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request body is longer than allowed")]
    TooLarge,
    #[error("the caller's body broke off: {0}")]
    Caller(axum::Error),
    #[error("the plugin's body broke off: {0}")]
    Plugin(hyper::Error),
    #[error("nothing moved for too long")]
    StoodStill,
}

/// The caller's body on its way to the plugin.
#[derive(Debug)]
pub(super) struct Upload {
    inner: Body,
    left: u64,
    state: Arc<UploadState>,
    pulse: Option<Arc<Pulse>>,
    traffic: Arc<Traffic>,
    told: Exchange,
}

impl Upload {
    pub(super) fn new(inner: Body, bound: u64, traffic: Arc<Traffic>) -> Self {
        let told = Exchange::default();
        let upload = Self { inner, left: bound, state: Arc::default(), pulse: None, traffic, told };
        if upload.inner.is_end_stream() {
            upload.state.end();
        }
        upload
    }

    pub(super) fn state(&self) -> Arc<UploadState> {
        self.state.clone()
    }

    /// Shows the body to somebody who watches.
    pub(super) fn told_to(mut self, told: Exchange) -> Self {
        self.told = told;
        if self.inner.is_end_stream() {
            self.told.sent();
        }
        self
    }

    /// Names the connection that the body goes over.
    pub(super) fn over(mut self, pulse: Arc<Pulse>) -> Self {
        self.pulse = Some(pulse);
        self
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let polled = Pin::new(&mut this.inner).poll_frame(cx);
            this.state.waits_for_caller.store(polled.is_pending(), Relaxed);
            let frame = match ready!(polled) {
                None => {
                    this.told.sent();
                    this.state.end();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    this.state.broken.store(true, Relaxed);
                    this.state.end();
                    return Poll::Ready(Some(Err(BodyError::Caller(error))));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers are not passed on: no plugin asks for them, and they could carry what was removed above.
            let Ok(data) = frame.into_data() else { continue };
            let length = data.len() as u64;
            let Some(left) = this.left.checked_sub(length) else {
                this.state.too_large.store(true, Relaxed);
                this.state.end();
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            this.left = left;
            this.traffic.moved_in(length);
            this.told.sends(&data);
            if let Some(pulse) = &this.pulse {
                pulse.beat();
            }
            if this.inner.is_end_stream() {
                this.told.sent();
                this.state.end();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.state.end();
    }
}

/// The plugin's body on its way to the caller. Dropped early, it closes its connection, so the plugin notices.
#[derive(Debug)]
pub(super) struct Download {
    inner: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    told: Answering,
}

impl Download {
    pub(super) fn new(inner: Incoming, connection: Connection, pool: Arc<Pool>, told: Answering) -> Self {
        let mut download = Self { inner, connection: Some(connection), pool, told };
        if download.inner.is_end_stream() {
            download.finish();
        }
        download
    }

    fn finish(&mut self) {
        self.told.ends();
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(connection);
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => {
                    // A driver that gave up leaves what looks like an end; the caller must not take it for one.
                    if this.connection.as_ref().is_some_and(|c| c.pulse.was_cut()) {
                        this.connection = None;
                        return Poll::Ready(Some(Err(BodyError::StoodStill)));
                    }
                    this.finish();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    this.connection = None;
                    return Poll::Ready(Some(Err(BodyError::Plugin(error))));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    this.pool.traffic().moved_out(data.len() as u64);
                    this.told.receives(&data);
                    if let Some(connection) = &this.connection {
                        connection.pulse.beat();
                    }
                    if this.inner.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
