//! The table of rules and their hits, as it is shown again and again.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use perf_protocol::Result;
use wirepath_drivers::XdpProgram;

/// What was shown last.
pub(super) struct HitTable {
    shown: String,
    /// On a terminal the table stays in its place; elsewhere each change is printed below the one before.
    terminal: bool,
}

impl HitTable {
    pub(super) fn new() -> Self {
        Self { shown: String::new(), terminal: io::stdout().is_terminal() }
    }

    /// Shows the counters, if they have changed.
    pub(super) fn show(&mut self, program: &XdpProgram) -> Result<()> {
        let text = text(program)?;
        if text == self.shown {
            return Ok(());
        }
        let mut output = io::stdout().lock();
        if self.terminal && !self.shown.is_empty() {
            // Up to the table's first line, and clear from there.
            write!(output, "\x1b[{}F\x1b[J", self.shown.lines().count())?;
        }
        output.write_all(text.as_bytes())?;
        output.flush()?;
        self.shown = text;
        Ok(())
    }
}

fn text(program: &XdpProgram) -> Result<String> {
    let mut text = format!("{:>12}  {}\n", "hits", "rule");
    for (rule, hits) in program.rule_hits()? {
        writeln!(text, "{hits:>12}  {rule}")?;
    }
    for (name, count) in program.events()? {
        if count > 0 {
            writeln!(text, "{count:>12}  ({name})")?;
        }
    }
    Ok(text)
}
