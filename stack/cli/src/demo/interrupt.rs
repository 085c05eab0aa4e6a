//! Ctrl-C in a demo that goes on: the way it is meant to end, and no failure.

use std::{io, process, thread};

use nix::sys::signal::{SigSet, Signal};

/// From now on Ctrl-C ends this process well, and the others of the demo with it. To be called before there are threads.
pub(super) fn ends_well() -> io::Result<()> {
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt.thread_block()?;
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        if interrupt.wait().is_ok() {
            println!("\n  Ended. Nothing is left behind.");
            process::exit(0);
        }
    })?;
    Ok(())
}
