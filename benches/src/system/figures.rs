//! All results of a bench, and what follows from them.

use super::{
    case::{Better, Metric},
    measure::Row,
};

/// Results, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<(&'static str, &'static str, Row)>);

/// The middle of some numbers, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, least, most })
    }
}

impl Figures {
    pub(super) fn add(&mut self, contestant: &'static str, case: &'static str, row: Row) {
        self.0.push((contestant, case, row));
    }

    pub(super) fn failures(&self) -> usize {
        self.0.iter().filter(|(_, _, row)| row.failed()).count()
    }

    /// The runs of one contestant at one case, one of each repetition.
    pub(super) fn rows(&self, contestant: &str, case: &str) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |(who, what, _)| *who == contestant && *what == case).map(|(_, _, row)| row)
    }

    /// How a contestant did; runs that other programs disturbed count only where there is no other.
    pub(super) fn spread(&self, contestant: &str, case: &str, metric: &Metric) -> Option<Spread> {
        let of = |clean: bool| {
            let rows = self.rows(contestant, case).filter(|row| !clean || row.is_clean());
            Spread::of(rows.filter_map(|row| row.value(metric)).collect())
        };
        of(true).or_else(|| of(false))
    }

    /// How many times as good `ours` is as `theirs`: the median over the pairs of runs that stood side by side.
    pub(super) fn advantage(&self, ours: &str, theirs: &str, case: &str, metric: &Metric) -> Option<f64> {
        let pairs = self.rows(ours, case).zip(self.rows(theirs, case));
        let ratios = pairs.filter_map(|(our, their)| {
            let (our, their) = (our.value(metric)?, their.value(metric)?);
            let ratio = match metric.better {
                Better::Higher => our / their,
                Better::Lower => their / our,
            };
            ratio.is_finite().then_some(ratio)
        });
        Spread::of(ratios.collect()).map(|spread| spread.median)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RATE: Metric = Metric { field: "rps", unit: "", decimals: 0, better: Better::Higher };
    const LATENCY: Metric = Metric { field: "p50_us", unit: "", decimals: 0, better: Better::Lower };

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (ours, theirs) in [(300.0, 100.0), (200.0, 100.0), (90.0, 30.0)] {
            figures.add("a", "case", Row::of(json!({ "rps": ours, "p50_us": 1e6 / ours, "secs": 1.0 })));
            figures.add("b", "case", Row::of(json!({ "rps": theirs, "p50_us": 1e6 / theirs, "secs": 1.0 })));
        }
        figures
    }

    #[test]
    fn medians_and_ends() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(figures().spread("a", "case", &RATE).unwrap().median, 200.0);
        assert_eq!(figures().spread("c", "case", &RATE), None);
    }

    #[test]
    fn advantages_are_of_pairs_and_above_one_is_better() {
        assert_eq!(figures().advantage("a", "b", "case", &RATE), Some(3.0));
        let latency = figures().advantage("a", "b", "case", &LATENCY).unwrap();
        assert!((latency - 3.0).abs() < 1e-9, "{latency}");
        assert_eq!(figures().advantage("a", "c", "case", &RATE), None);
    }

    #[test]
    fn disturbed_runs_count_only_alone() {
        let mut figures = Figures::default();
        figures.add("a", "case", Row::of(json!({ "rps": 1.0, "secs": 1.0, "foreign_cpu_s": 0.9 })));
        assert_eq!(figures.spread("a", "case", &RATE).unwrap().median, 1.0);
        figures.add("a", "case", Row::of(json!({ "rps": 5.0, "secs": 1.0, "foreign_cpu_s": 0.01 })));
        assert_eq!(figures.spread("a", "case", &RATE).unwrap().most, 5.0);
        assert_eq!(figures.spread("a", "case", &RATE).unwrap().least, 5.0);
        figures.add("a", "case", Row::of(json!("no connection")));
        assert_eq!(figures.failures(), 1);
    }
}
