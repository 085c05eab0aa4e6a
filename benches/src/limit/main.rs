//! The limit of bulk transfer over AF_XDP on this machine: both ends on an XSK, every packet sealed and opened
//! with AES-128-GCM, and no QUIC: no acknowledgements, no windows, no actors. The sender sends all it can; what
//! the receiver opens counts. With the perf command line, so `make bench` runs it beside the stacks (`limit`).

mod end;

use std::{process::ExitCode, thread, time::Duration};

use clap::Parser;
use perf_protocol::{Json, Meter, Mode, Options, READY, Result, Role};

use end::{End, Peer};

#[derive(Parser)]
#[command(name = "wirepath-limit", about = "AF_XDP and a cipher, without QUIC: the limit of bulk transfer.")]
struct Program {
    #[command(subcommand)]
    role: Role,
}

/// What a client asks its server for: the first byte of a datagram in the clear.
mod ask {
    /// Send to me, without end.
    pub(crate) const SEND: u8 = b's';
    /// Send no more.
    pub(crate) const STOP: u8 = b'x';
    /// How many bytes have you opened?
    pub(crate) const COUNT: u8 = b'c';
}

/// Between two askings of a question that went unanswered: the receiver's ring may have been full.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Askings before the other end counts as gone.
const ASKINGS: u32 = 250;

fn main() -> ExitCode {
    let outcome = match Program::parse().role {
        Role::Server(options) => serve(&options),
        Role::Client(options) => request(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wirepath-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is killed.
fn serve(options: &Options) -> Result<()> {
    let mut end = End::open(options, options.listen_addr()?)?;
    println!("{READY}");
    let (mut client, mut sending, mut opened) = (None::<Peer>, false, 0_u64);
    loop {
        let mut asked = None;
        opened += end.receive(|peer, byte| asked = Some((peer, byte)))?;
        if let Some((peer, byte)) = asked {
            match byte {
                ask::COUNT => end.tell(peer, &opened.to_be_bytes())?,
                other => sending = other == ask::SEND,
            }
            client = Some(peer);
        }
        if let Some(peer) = client.filter(|_| sending) {
            end.send_batch(peer)?;
        }
    }
}

fn request(options: &Options) -> Result<()> {
    let server = Peer(options.connect_addr()?);
    let mut end = End::open(options, options.local_addr())?;
    let json = Json::new().text("peer", "limit").text("mode", options.mode.name());
    let (warmup, secs) = (Duration::from_secs_f64(options.warmup), Duration::from_secs_f64(options.secs));
    let json = match options.mode {
        Mode::Bulk => {
            end.tell(server, &[ask::SEND])?;
            end.receive_for(warmup)?;
            let meter = Meter::start(options.server_pid);
            let bytes = end.receive_for(secs)?;
            let sample = meter.stop();
            end.tell(server, &[ask::STOP])?;
            sample.report_bytes(json, bytes)
        }
        Mode::Upload => {
            end.send_for(server, warmup)?;
            let before = count(&mut end, server)?;
            let meter = Meter::start(options.server_pid);
            end.send_for(server, secs)?;
            let bytes = count(&mut end, server)? - before;
            meter.stop().report_bytes(json, bytes)
        }
        other => {
            return Err(format!("the limit is measured for bulk and upload, not {}", other.name()).into());
        }
    };
    println!("{json}");
    Ok(())
}

/// The bytes the server has opened so far.
fn count(end: &mut End, server: Peer) -> Result<u64> {
    for _ in 0..ASKINGS {
        end.tell(server, &[ask::COUNT])?;
        thread::sleep(ASK_AGAIN);
        if let Some(count) = end.answer()? {
            return Ok(count);
        }
    }
    Err("the server does not answer".into())
}
