//! A look as text, for a terminal of 100 columns.

use std::fmt::Write;

use super::Look;

pub(super) fn text(look: &Look) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, look);
    text
}

fn write(text: &mut String, look: &Look) -> std::fmt::Result {
    let (overview, rates) = (&look.overview, &look.overview.rates);
    writeln!(text, "{}", overview.data_path.summary)?;
    writeln!(
        text,
        "up {} s   in {}   out {}   {} packets/s   {} datagrams/s   dropped {}/s   {} datagrams a kick",
        overview.uptime_ns / 1_000_000_000,
        bits(rates.rx_bytes_per_s),
        bits(rates.tx_bytes_per_s),
        count(rates.rx_packets_per_s),
        count(rates.tx_datagrams_per_s),
        count(rates.drops_per_s),
        if rates.kicks_per_s > 0.0 { (rates.tx_datagrams_per_s / rates.kicks_per_s).round() } else { 0.0 },
    )?;
    let journeys = &overview.journeys;
    writeln!(
        text,
        "a datagram in: p50 {} p99 {}   out: p50 {} p99 {}",
        time(journeys.rx_p50_ns),
        time(journeys.rx_p99_ns),
        time(journeys.tx_p50_ns),
        time(journeys.tx_p99_ns)
    )?;
    for lint in &overview.lints {
        writeln!(text, "{:?}: {}. {}", lint.severity, lint.title, lint.detail)?;
    }
    writeln!(
        text,
        "\n{:<34} {:>6} {:>10} {:>8} {:>7} {:>9} {:>9}",
        "ACTOR", "BUSY", "ITEMS/s", "QUEUED", "PEAK", "WAIT", "RUN"
    )?;
    for row in &look.actors.rows {
        let name = if row.name.is_empty() { &row.id } else { &row.name };
        writeln!(
            text,
            "{:<34} {:>5.1}% {:>10} {:>8} {:>7} {:>9} {:>9}",
            cut(&format!("{} {name}", row.kind), 34),
            row.busy_share * 100.0,
            count(row.items_per_s),
            row.queued,
            row.depth_peak,
            time(row.wait_mean_ns),
            time(row.run_mean_ns)
        )?;
    }
    writeln!(text, "of {}", look.actors.total)?;
    writeln!(
        text,
        "\n{:<34} {:>9} {:>9} {:>9} {:>9} {:>6} BLOCKED BY",
        "CONNECTION", "OUT", "IN", "RTT", "CWND", "LOST"
    )?;
    for row in &look.connections.rows {
        writeln!(
            text,
            "{:<34} {:>9} {:>9} {:>9} {:>9} {:>6} {:?} {:.0}%",
            cut(&format!("{} {}", row.id, row.remote), 34),
            bits(row.tx_bytes_per_s),
            bits(row.rx_bytes_per_s),
            time(row.rtt_ns),
            count(row.cwnd_bytes as f64),
            row.packets_lost,
            row.blocked_by,
            row.blocked_share * 100.0
        )?;
    }
    writeln!(text, "of {}", look.connections.total)
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

fn count(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.1}G", value / 1e9),
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

fn bits(bytes_per_s: f64) -> String {
    format!("{}b/s", count(bytes_per_s * 8.0))
}

fn time(nanos: u64) -> String {
    match nanos {
        0 => "-".to_owned(),
        1..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [count(0.0), count(9999.0), count(12_345.0), count(2.5e9)],
            ["0", "9999", "12.3k", "2.5G"]
        );
        assert_eq!([time(0), time(999), time(1500), time(2_500_000)], ["-", "999 ns", "1.5 us", "2.5 ms"]);
        assert_eq!(bits(125_000.0), "1.0Mb/s");
    }
}
