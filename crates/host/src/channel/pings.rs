//! Pings of the host, and which pong proves what.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Pings whose pongs are awaited, oldest first.
#[derive(Default)]
pub(super) struct Pings {
    sent: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Pings {
    /// Remembers who waits for the next ping's pong, and returns the ping's number.
    pub(super) fn add(&mut self, told: oneshot::Sender<()>) -> u64 {
        // Those who gave up waiting make room.
        self.waiting.retain(|(_, told)| !told.is_closed());
        self.sent += 1;
        self.waiting.push_back((self.sent, told));
        self.sent
    }

    /// A pong proves that its ping was read, and so were all before it. Others are unasked for and mean nothing.
    pub(super) fn answered(&mut self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        if number > self.sent {
            return;
        }
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= number) {
            if let Some((_, told)) = self.waiting.pop_front() {
                let _ = told.send(());
            }
        }
    }

    /// Tells everybody who still waits that no pong will come.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }
}
