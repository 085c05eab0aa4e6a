//! Datagrams (RFC 9221): the queue towards the application, and the room in the one towards the peer.

use bytes::Bytes;

use super::{Command, ConnectionLink, LinkError, Phase, first, wait_for};

/// Received datagrams kept for an application that does not fetch them; the oldest go first.
const DATAGRAM_BACKLOG: usize = 4096;

impl ConnectionLink {
    /// Takes the next received datagram.
    ///
    /// # Errors
    /// [`LinkError::Closed`], behind the last one.
    pub async fn receive_datagram(&self) -> Result<Bytes, LinkError> {
        wait_for(&self.datagram_received, || {
            let state = &mut *self.state.lock();
            first(&mut state.datagrams, &state.phase)
        })
        .await
    }

    /// Queues a datagram to be sent, once there is room for it in the send queue.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn send_datagram(&self, data: Bytes) -> Result<(), LinkError> {
        let len = data.len() as u64;
        wait_for(&self.datagram_sendable, || self.reserve_datagram(len, false).transpose()).await?;
        self.command(Command::Datagram(data));
        Ok(())
    }

    /// Queues a datagram to be sent, room or not: the machine drops its oldest for it.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub fn send_fresh_datagram(&self, data: Bytes) -> Result<(), LinkError> {
        self.reserve_datagram(data.len() as u64, true)?;
        self.command(Command::Datagram(data));
        Ok(())
    }

    /// Counts `len` bytes as handed over, if there is room for them or with `force`.
    fn reserve_datagram(&self, len: u64, force: bool) -> Result<Option<()>, LinkError> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed(_)) {
            return Err(LinkError::Closed);
        }
        let queued = state.datagram_handed - state.datagram_gone;
        let room = force || queued == 0 || queued + len <= self.datagram_queue;
        state.datagram_handed += if room { len } else { 0 };
        Ok(room.then_some(()))
    }

    /// Takes a received datagram if one waits.
    pub fn try_receive_datagram(&self) -> Option<Bytes> {
        self.state.lock().datagrams.pop_front()
    }

    /// The longest datagram that can be sent now, in bytes; `None` if the peer takes none.
    pub fn max_datagram(&self) -> Option<usize> {
        self.state.lock().max_datagram
    }

    pub(crate) fn on_datagram(&self, datagram: Bytes) -> bool {
        let mut state = self.state.lock();
        let full = state.datagrams.len() >= DATAGRAM_BACKLOG;
        if full {
            state.datagrams.pop_front();
        }
        state.datagrams.push_back(datagram);
        drop(state);
        self.datagram_received.notify_waiters();
        !full
    }
}
