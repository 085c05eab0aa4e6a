//! The log a connection keeps of itself, in memory, to be fetched by whoever looks at it: where the builder opted in.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use wirepath_quic::qlog::Sink;

/// The beginning is kept for good: the handshake, the parameters.
const HEAD: usize = 64 << 10;
/// Of all later records the newest.
const TAIL: usize = 448 << 10;

/// One connection's log.
#[derive(Debug, Default)]
pub struct QlogBuffer(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    head: Vec<u8>,
    /// As they came, several at a time.
    tail: VecDeque<Box<[u8]>>,
    tail_len: usize,
}

impl QlogBuffer {
    /// The log so far: its beginning and its end, whole records in order. A `.sqlog` file.
    pub fn read(&self) -> Vec<u8> {
        let records = self.0.lock();
        let mut log = records.head.clone();
        records.tail.iter().for_each(|several| log.extend_from_slice(several));
        log
    }
}

/// What a connection writes to.
#[derive(Debug)]
pub struct QlogWriter(pub Arc<QlogBuffer>);

impl Sink for QlogWriter {
    fn records(&mut self, several: &[u8]) {
        self.0.0.lock().add(several);
    }
}

impl Records {
    fn add(&mut self, several: &[u8]) {
        if self.tail.is_empty() && self.head.len() + several.len() <= HEAD {
            return self.head.extend_from_slice(several);
        }
        self.tail_len += several.len();
        self.tail.push_back(several.into());
        while self.tail_len > TAIL {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_len -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept_in_whole_records() {
        let buffer = Arc::new(QlogBuffer::default());
        let mut writer = QlogWriter(buffer.clone());
        for n in 0..100_000 {
            writer.records(format!("\u{1e}{{\"n\":{n}}}\n").as_bytes());
        }
        let log = String::from_utf8(buffer.read()).expect("text");
        assert!(log.len() <= HEAD + TAIL);
        let numbers: Vec<u64> = log
            .split_terminator('\n')
            .map(|line| {
                line.trim_start_matches("\u{1e}{\"n\":").trim_end_matches('}').parse().expect("whole")
            })
            .collect();
        assert_eq!((numbers[0], numbers[numbers.len() - 1]), (0, 99_999));
        assert!(numbers.is_sorted());
    }
}
