//! The streams of a connection, between the state machine and the application's halves.

use std::sync::Arc;

use wirepath_quic::{Event, StreamId, stream::ReadOutcome};

use crate::link::{Command, ConnectionLink, OpenStream, ReadEnd, StreamLink, WriteEnd};

/// What the machine refuses has come too late (the stream or the connection is over), and the handle learns
/// that from the half's end.
fn ignore<T, E>(_outcome: Result<T, E>) {}

/// The streams whose halves may still change; which those are, the link knows.
#[derive(Debug)]
pub(super) struct StreamTable {
    link: Arc<ConnectionLink>,
    /// Readers with something new, woken once at the end of the turn.
    readable: Vec<Arc<StreamLink>>,
    /// Bytes of datagrams that came by command, since the beginning.
    datagram_bytes: u64,
}

impl StreamTable {
    /// No streams yet.
    pub(super) fn new(link: Arc<ConnectionLink>) -> Self {
        Self { link, readable: Vec::new(), datagram_bytes: 0 }
    }

    /// Gives memory back that only traffic needs.
    pub(super) fn rest(&mut self) {
        self.readable.shrink_to_fit();
    }

    /// A stream the peer opened.
    pub(super) fn insert(&mut self, link: Arc<StreamLink>) {
        let sending = link.id().stream_type().is_bidirectional();
        self.link.open.insert(OpenStream { link, receiving: true, sending, priority: 0 });
    }

    /// Carries out a command on a stream.
    pub(super) fn apply(&mut self, quic: &mut wirepath_quic::Connection, command: Command) {
        match command {
            Command::Open(link) => {
                let ty = link.id().stream_type();
                let opened = quic.open(ty);
                debug_assert!(
                    opened.is_none() || opened == Some(link.id()),
                    "streams open in the order of their IDs"
                );
                if opened.is_some() {
                    let receiving = ty.is_bidirectional();
                    self.link.open.insert(OpenStream { link, receiving, sending: true, priority: 0 });
                } else {
                    close(&link);
                }
            }
            Command::Write(id, data) => ignore(quic.write(id, data)),
            Command::WriteLast(id, data) => {
                if data.is_empty() || quic.write(id, data).is_ok() {
                    ignore(quic.finish(id));
                }
            }
            Command::Reset(id, code) => {
                ignore(quic.reset(id, code));
                self.end_send(id, None);
            }
            Command::ResetAt(id, code, reliable) => {
                ignore(quic.reset_at(id, code, reliable));
                self.end_send(id, None);
            }
            Command::StopSending(id, code) => {
                ignore(quic.stop_sending(id, code));
                self.end_receive(id);
            }
            Command::Release(id, bytes) => quic.release(id, bytes),
            // A datagram that does not fit or finds the queue full is lost, as datagrams may be.
            Command::Datagram(data) => {
                self.datagram_bytes += data.len() as u64;
                ignore(quic.send_datagram(data));
            }
            Command::Priority(id, priority) => {
                ignore(quic.set_priority(id, priority));
                self.link.open.change(id, |stream| stream.priority = priority);
            }
            // Not of streams.
            Command::Close(..) | Command::UpdateKeys(_) | Command::Move(_) => {}
        }
    }

    /// Passes on what the machine tells of a stream.
    pub(super) fn on_event(&mut self, quic: &mut wirepath_quic::Connection, event: Event) {
        match event {
            Event::StreamReadable(id) => self.read(quic, id),
            Event::SendReleased { id, bytes } => {
                if let Some(link) = self.link.open.get(id) {
                    link.on_released(bytes, quic.send_progress(id));
                }
            }
            Event::StreamFinished(id) => self.end_send(id, Some(WriteEnd::Acknowledged)),
            Event::StreamStopped { id, code } => self.end_send(id, Some(WriteEnd::Stopped(code))),
            Event::StreamReset { id, code, partial } => {
                if let Some(link) = self.link.open.get(id) {
                    link.end_read(ReadEnd::Reset { code, partial });
                    self.readable.push(link);
                }
                self.end_receive(id);
            }
            _ => {}
        }
    }

    /// Moves what can be read to the reader's side.
    fn read(&mut self, quic: &mut wirepath_quic::Connection, id: StreamId) {
        let Some(link) = self.link.open.get(id) else { return };
        let finished = loop {
            match quic.read(id) {
                Ok(ReadOutcome::Data(chunk)) => link.push(chunk),
                Ok(ReadOutcome::Blocked) => break false,
                Ok(ReadOutcome::Finished) => break true,
                // A reset: its own event follows.
                Err(_) => break false,
            }
        };
        if finished {
            link.end_read(ReadEnd::Finished);
            self.end_receive(id);
        }
        self.readable.push(link);
    }

    /// Bytes of datagrams handed to the machine so far, by command.
    pub(super) fn datagram_bytes(&self) -> u64 {
        self.datagram_bytes
    }

    /// Wakes the readers of this turn.
    pub(super) fn wake_readers(&mut self) {
        for link in self.readable.drain(..) {
            link.wake_reader();
        }
    }

    /// The connection is over.
    pub(super) fn close(&mut self) {
        for stream in self.link.open.take() {
            close(&stream.link);
        }
        self.wake_readers();
    }

    fn end_send(&mut self, id: StreamId, end: Option<WriteEnd>) {
        if let Some(end) = end
            && let Some(link) = self.link.open.get(id)
        {
            link.end_write(end);
        }
        self.link.open.change(id, |stream| stream.sending = false);
    }

    fn end_receive(&mut self, id: StreamId) {
        self.link.open.change(id, |stream| stream.receiving = false);
    }
}

fn close(stream: &StreamLink) {
    stream.end_read(ReadEnd::Closed);
    stream.end_write(WriteEnd::Closed);
    stream.wake_reader();
}
