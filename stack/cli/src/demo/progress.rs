//! A progress bar: redrawn in place on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const BAR_WIDTH: u64 = 30;

/// Fast enough to look alive, slow enough to cost nothing.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Lines of a log, where there is no terminal: one each quarter.
const LOG_STEPS: u64 = 4;

pub(super) struct Progress {
    label: String,
    terminal: bool,
    drawn_at: Option<Instant>,
    logged_steps: u64,
}

impl Progress {
    pub(super) fn new(label: &str) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { label: label.to_owned(), terminal, drawn_at: None, logged_steps: 0 }
    }

    pub(super) fn update(&mut self, done: u64, total: u64, seconds: f64) {
        let due = self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW_INTERVAL) || done == total;
        let step = done * LOG_STEPS / total.max(1);
        let text = line(&self.label, done, total, seconds);
        if self.terminal && due {
            print!("\r{text}\x1b[K");
            let _ = io::stdout().flush();
            self.drawn_at = Some(Instant::now());
        } else if !self.terminal && step > self.logged_steps {
            println!("{text}");
            self.logged_steps = step;
        }
    }

    /// Leaves the bar as it is and goes on below it.
    pub(super) fn finish(self) {
        if self.terminal && self.drawn_at.is_some() {
            println!();
        }
    }
}

fn line(label: &str, done: u64, total: u64, seconds: f64) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    let filled = (done * BAR_WIDTH / total.max(1)).min(BAR_WIDTH) as usize;
    let bar = format!("{:<width$}", "#".repeat(filled), width = BAR_WIDTH as usize);
    let gigabits = done as f64 * 8.0 / 1e9 / seconds.max(1e-3);
    format!("  {label:<6} [{bar}] {:>4}/{} MiB  {gigabits:5.2} Gbit/s", done / MEBIBYTE, total / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        let half = line("there", 128 << 20, 256 << 20, 1.0);
        assert_eq!(half.matches('#').count(), 15);
        assert!(half.contains("128/256 MiB") && half.contains("1.07 Gbit/s"), "{half}");
        assert_eq!(line("there", 0, 0, 0.0).matches('#').count(), 0);
    }
}
