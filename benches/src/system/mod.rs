//! Programs with the perf command line, side by side: server on one core, client on another, over a veth pair
//! between two namespaces. All of them in turn, and that several times, so that whatever else the machine does
//! meets all alike.

mod case;
mod contestant;
mod figures;
mod machine;
mod measure;
mod plot;
mod table;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
};

use perf_protocol::Result;
use serde_json::json;
use wirepath_cli::{
    identity::Identity,
    world::{Link, World, cores},
};

use case::Case;
use contestant::Contestant;
use figures::Figures;
use measure::Bench;
use plot::Plot;

/// Options of `wirepath-bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Contestants, in the order of the tables; the first is compared with the others.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ours-xdp,ours-udp,quinn,quiche,s2n-udp,s2n-xdp,limit,tls"
    )]
    contestants: Vec<String>,
    /// Cases.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "bulk-1,bulk-16,upload-1,rps-1,rps-32,rps-256,hps-32,dgram"
    )]
    cases: Vec<String>,
    /// How often each contestant runs each case.
    #[arg(long, default_value_t = 5, value_name = "N")]
    repetitions: u32,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 3.0, value_name = "F")]
    secs: f64,
    /// Once, for half a second each: that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// IP MTU of the link.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    mtu: u16,
    /// What the link does to UDP GSO packets, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "cut,whole")]
    wires: Vec<Wire>,
    /// Seconds to wait before a run for other programs to leave the cores alone.
    #[arg(long, default_value_t = 10.0, value_name = "F")]
    quiet: f64,
    /// Runs of a measurement that failed or was disturbed by other programs, before it is given up.
    #[arg(long, default_value_t = 3, value_name = "N")]
    tries: u32,
    /// Results are appended to this file, a line of JSON each.
    #[arg(long, default_value = "target/bench.jsonl", value_name = "FILE")]
    output: PathBuf,
    /// A file for the tables, in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// A file for a picture of the medians, in SVG.
    #[arg(long, default_value = "target/bench.svg", value_name = "FILE")]
    plot: PathBuf,
    /// Use the programs as they were last built.
    #[arg(long)]
    no_build: bool,
    /// Nice level of the measured programs; below 0 keeps other programs off their cores.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_name = "N")]
    nice: i32,
}

/// What a veth pair does to packets larger than its MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// Cuts UDP GSO trains to the MTU, as network cards do: packets cross as on a cable.
    Cut,
    /// Hands them over whole, 64 KB at a time, as veth by itself does. AF_XDP knows no such packets.
    Whole,
}

/// Builds, measures, prints.
///
/// # Errors
/// Nothing could be measured: no rights, no such contestant, or one that does not build. A single run that fails is
/// shown in the table.
pub fn run(options: &Options) -> Result<()> {
    let (repetitions, secs) = if options.quick { (1, 0.5) } else { (options.repetitions, options.secs) };
    let contestants = contestant::find(&options.contestants)?;
    let cases = case::find(&options.cases)?;
    if !options.no_build {
        contestants.iter().try_for_each(Contestant::build)?;
    }
    let &[server_core, client_core, ..] = &cores()[..] else {
        return Err("server and client need a core each, and there is only one".into());
    };
    for file in [&options.output, &options.plot] {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
    }
    let mut output = OpenOptions::new().create(true).append(true).open(&options.output)?;
    let (mut tables, mut plot, mut failures) = (String::new(), Plot::new(&contestants), 0);
    for &wire in &options.wires {
        // Peers over AF_XDP open a socket for each queue; one is enough for one core.
        let link =
            Link { mtu: options.mtu, queues: 1, checksum_offload: true, whole_segments: wire == Wire::Whole };
        let bench = Bench {
            world: World::create(&link)?,
            folder: Folder::with_identity()?,
            server_core,
            client_core,
            mtu: options.mtu,
            secs,
            nice: options.nice,
            quiet: options.quiet,
        };
        let figures = measure_all(
            &bench,
            &contestants,
            &cases,
            repetitions,
            |row, contestant, case, repetition| {
                save(&mut output, row, contestant, case, repetition, (wire, options))
            },
            options.tries,
        )?;
        let machine = machine::description(wire, options.mtu, repetitions, secs);
        tables += &table::render(&figures, &contestants, &cases, &machine);
        tables.push('\n');
        plot.add(wire, &figures, &cases);
        failures += figures.failures();
    }
    tables += &table::legend(&contestants, &cases);
    println!("{tables}");
    if let Some(path) = &options.markdown {
        fs::write(path, &tables)?;
    }
    fs::write(&options.plot, plot.svg())?;
    match failures {
        0 => Ok(()),
        failures => Err(format!("{failures} measurements failed").into()),
    }
}

/// All contestants at all cases, in turn, and that several times.
fn measure_all(
    bench: &Bench,
    contestants: &[&'static Contestant],
    cases: &[&'static Case],
    repetitions: u32,
    mut save: impl FnMut(&measure::Row, &Contestant, &Case, u32) -> Result<()>,
    tries: u32,
) -> Result<Figures> {
    let mut figures = Figures::default();
    for repetition in 0..repetitions {
        for case in cases {
            // Another begins each time: nobody always has the cold machine.
            let begin = repetition as usize % contestants.len();
            let (tail, head) = contestants.split_at(begin);
            for contestant in head.iter().chain(tail).filter(|contestant| contestant.does(case)) {
                let row = best_try(bench, contestant, case, tries);
                let (name, case_name) = (contestant.name, case.name);
                eprintln!("{}/{repetitions} {case_name:<9} {name:<9} {}", repetition + 1, row.outcome());
                save(&row, contestant, case, repetition)?;
                figures.add(contestant.name, case.name, row);
            }
        }
    }
    Ok(figures)
}

/// A run that came to its end undisturbed, or the last one.
fn best_try(bench: &Bench, contestant: &Contestant, case: &Case, tries: u32) -> measure::Row {
    for _ in 1..tries {
        let row = bench.measure(contestant, case);
        if row.is_clean() {
            return row;
        }
        eprintln!("    {:<9} {:<9} {}; once more", case.name, contestant.name, row.outcome());
    }
    bench.measure(contestant, case)
}

fn save(
    output: &mut File,
    row: &measure::Row,
    contestant: &Contestant,
    case: &Case,
    repetition: u32,
    (wire, options): (Wire, &Options),
) -> Result<()> {
    let line = json!({
        "contestant": contestant.name, "case": case.name, "repetition": repetition, "mtu": options.mtu,
        "wire": format!("{wire:?}").to_lowercase(), "result": row.to_json(),
    });
    Ok(writeln!(output, "{line}")?)
}

/// A folder with a certificate and its key, gone with this value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn with_identity() -> Result<Self> {
        let folder = Self(std::env::temp_dir().join(format!("wirepath-bench-{}", std::process::id())));
        fs::create_dir_all(&folder.0)?;
        let identity = Identity::generate()?;
        fs::write(folder.0.join("cert.pem"), identity.certificate_pem)?;
        fs::write(folder.0.join("key.pem"), identity.key_pem)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
