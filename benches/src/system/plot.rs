//! A picture of the medians: a panel a case, a bar a contestant.

use std::fmt::Write;

use super::{Wire, case::Case, contestant::Contestant, figures::Figures};

/// Told apart by people who see no red or no green, too (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#999999"];
const PANEL: (usize, usize) = (240, 170);
const PANELS_A_ROW: usize = 4;
const MARGIN: usize = 20;
/// Room for a row's heading, and for the legend on top.
const HEADING: usize = 34;

/// The picture, as it grows.
#[derive(Debug)]
pub(super) struct Plot {
    names: Vec<&'static str>,
    body: String,
    height: usize,
}

impl Plot {
    pub(super) fn new(contestants: &[&Contestant]) -> Self {
        let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
        let mut body = String::new();
        for (number, name) in names.iter().enumerate() {
            let x = MARGIN + number * 120;
            let _ =
                writeln!(body, r#"<rect x="{x}" y="12" width="12" height="12" fill="{}"/>"#, colour(number));
            let _ = writeln!(body, r#"<text x="{}" y="22">{name}</text>"#, x + 18);
        }
        Self { names, body, height: HEADING }
    }

    /// Adds the panels of one wire: of each case the first of its figures.
    pub(super) fn add(&mut self, wire: Wire, figures: &Figures, cases: &[&Case]) {
        let heading = match wire {
            Wire::Cut => "packets of MTU size",
            Wire::Whole => "UDP GSO packets whole",
        };
        let y = self.height + 22;
        let _ = writeln!(self.body, r#"<text x="{MARGIN}" y="{y}" class="heading">{heading}</text>"#);
        self.height += HEADING;
        for (number, case) in cases.iter().enumerate() {
            let (column, row) = (number % PANELS_A_ROW, number / PANELS_A_ROW);
            self.panel((MARGIN + column * PANEL.0, self.height + row * PANEL.1), figures, case);
        }
        self.height += cases.len().div_ceil(PANELS_A_ROW) * PANEL.1;
    }

    fn panel(&mut self, (left, top): (usize, usize), figures: &Figures, case: &Case) {
        let metric = &case.metrics[0];
        let spreads: Vec<_> = self.names.iter().map(|name| figures.spread(name, case.name, metric)).collect();
        let most = spreads.iter().flatten().map(|spread| spread.most).fold(f64::MIN_POSITIVE, f64::max);
        let _ =
            writeln!(self.body, r#"<text x="{left}" y="{}">{}, {}</text>"#, top + 14, case.name, metric.unit);
        let (floor, tall, wide) =
            (top + PANEL.1 - 24, (PANEL.1 - 64) as f64, (PANEL.0 - 30) / self.names.len());
        for (number, spread) in spreads.iter().enumerate() {
            let Some(spread) = spread else { continue };
            let height = |value: f64| value / most * tall;
            let (x, y) = (left + number * wide, floor as f64 - height(spread.median));
            let _ = writeln!(
                self.body,
                r#"<rect x="{x}" y="{y:.1}" width="{}" height="{:.1}" fill="{}"/>"#,
                wide - 4,
                height(spread.median),
                colour(number)
            );
            let middle = x + (wide - 4) / 2;
            let _ = writeln!(
                self.body,
                r#"<line x1="{middle}" x2="{middle}" y1="{:.1}" y2="{:.1}" class="spread"/>"#,
                floor as f64 - height(spread.least),
                floor as f64 - height(spread.most),
            );
            let _ = writeln!(
                self.body,
                r#"<text x="{middle}" y="{}" class="figure">{}</text>"#,
                floor + 14,
                short(spread.median)
            );
        }
    }

    /// The picture.
    pub(super) fn svg(&self) -> String {
        let (width, height) = (2 * MARGIN + PANELS_A_ROW * PANEL.0, self.height + MARGIN);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\">\n<style>text {{ font: 12px \
             sans-serif }} .heading {{ font-weight: bold }} .figure {{ font-size: 9px; text-anchor: middle }} \
             .spread {{ stroke: black }}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// Three digits, and thousands as k.
fn short(value: f64) -> String {
    match value {
        1000.0.. => format!("{:.0}k", value / 1000.0),
        10.0.. => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::system::{case, contestant, measure::Row};

    #[test]
    fn bars_are_as_tall_as_their_figures() {
        let contestants = contestant::find(&["ours-xdp".into(), "quinn".into()]).unwrap();
        let cases = case::find(&["rps-1".into()]).unwrap();
        let mut figures = Figures::default();
        figures.add("ours-xdp", "rps-1", Row::of(json!({ "rps": 20_000.0 })));
        figures.add("quinn", "rps-1", Row::of(json!({ "rps": 10_000.0 })));
        let mut plot = Plot::new(&contestants);
        plot.add(Wire::Cut, &figures, &cases);
        let svg = plot.svg();
        assert!(svg.contains(r##"height="106.0" fill="#0072b2""##), "{svg}");
        assert!(svg.contains(r##"height="53.0" fill="#56b4e9""##), "{svg}");
        assert!(svg.contains(">20k<") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
