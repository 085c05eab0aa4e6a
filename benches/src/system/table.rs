//! The results, in Markdown.

use std::fmt::Write;

use super::{
    case::{Case, Metric},
    contestant::Contestant,
    figures::Figures,
};

/// Two tables: what each did, and how the first compares with the others.
pub(super) fn render(
    figures: &Figures,
    contestants: &[&Contestant],
    cases: &[&Case],
    machine: &str,
) -> String {
    let mut text = String::new();
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let _ = writeln!(text, "{machine}.\n");
    row(&mut text, "", names.iter().map(|name| (*name).to_owned()));
    separator(&mut text, names.len());
    for (case, metric) in metrics(cases) {
        let label = format!("{}, {}", case.name, metric.unit);
        row(&mut text, &label, names.iter().map(|name| cell(figures, name, case, metric)));
    }
    if let Some((first, others)) = names.split_first().filter(|(_, others)| !others.is_empty()) {
        let _ = writeln!(text, "\n{first} against the others (above 1: {first} is better):\n");
        row(&mut text, "", others.iter().map(|name| (*name).to_owned()));
        separator(&mut text, others.len());
        for (case, metric) in metrics(cases) {
            let label = format!("{}, {}", case.name, metric.unit);
            row(&mut text, &label, others.iter().map(|other| ratio(figures, first, other, case, metric)));
        }
    }
    text
}

/// What the names in the tables stand for.
pub(super) fn legend(contestants: &[&Contestant], cases: &[&Case]) -> String {
    let mut text = String::from("~: other programs took more than a tenth of a core meanwhile.\n\n");
    for contestant in contestants {
        let _ = writeln!(text, "- {}: {}", contestant.name, contestant.what);
    }
    for case in cases {
        let _ = writeln!(text, "- {}: {}", case.name, case.what);
    }
    text
}

fn metrics<'a>(cases: &'a [&'a Case]) -> impl Iterator<Item = (&'a Case, &'a Metric)> {
    cases.iter().flat_map(|case| case.metrics.iter().map(move |metric| (*case, metric)))
}

fn row(text: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "| {label} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn separator(text: &mut String, columns: usize) {
    let _ = writeln!(text, "|---|{}", "---:|".repeat(columns));
}

fn cell(figures: &Figures, contestant: &str, case: &Case, metric: &Metric) -> String {
    let failed = figures.rows(contestant, case.name).filter(|row| row.failed()).count();
    let disturbed = figures.rows(contestant, case.name).all(|row| !row.is_clean());
    let mut text = match figures.spread(contestant, case.name, metric) {
        Some(spread) if spread.least == spread.most => number(spread.median, metric.decimals),
        Some(spread) => {
            let [median, least, most] =
                [spread.median, spread.least, spread.most].map(|value| number(value, metric.decimals));
            format!("{median} ({least}-{most})")
        }
        None => "-".to_owned(),
    };
    if disturbed && text != "-" {
        text.insert(0, '~');
    }
    if failed > 0 {
        let _ = write!(text, " [{failed} failed]");
    }
    text
}

fn ratio(figures: &Figures, ours: &str, theirs: &str, case: &Case, metric: &Metric) -> String {
    figures
        .advantage(ours, theirs, case.name, metric)
        .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// With a comma between thousands.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::system::{case, contestant, measure::Row};

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(123.456, 2), "123.46");
        assert_eq!(number(-1234.5, 1), "-1,234.5");
        assert_eq!(number(-123.0, 0), "-123");
    }

    #[test]
    fn tables_show_medians_failures_and_ratios() {
        let contestants = contestant::find(&["ours-xdp".into(), "quinn".into()]).unwrap();
        let cases = case::find(&["rps-1".into()]).unwrap();
        let mut figures = Figures::default();
        for rate in [10_000.0, 12_000.0, 11_000.0] {
            figures.add("ours-xdp", "rps-1", Row::of(json!({ "rps": rate, "p50_us": 50.0, "p99_us": 90.0 })));
            figures.add("quinn", "rps-1", Row::of(json!({ "rps": rate / 2.0, "p50_us": 100.0 })));
        }
        figures.add("quinn", "rps-1", Row::of(json!("it broke")));
        let text = render(&figures, &contestants, &cases, "A machine");
        assert!(text.starts_with("A machine.\n"), "{text}");
        let rate = "| rps-1, requests/s | 11,000 (10,000-12,000) | 5,500 (5,000-6,000) [1 failed] |";
        assert!(text.contains(rate), "{text}");
        assert!(text.contains("| rps-1, us p99 | 90 | - [1 failed] |"), "{text}");
        assert!(text.contains("| rps-1, us p50 | 2.00 |"), "{text}");
    }
}
