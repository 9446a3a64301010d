//! Rounds → medians and ratios → Markdown.

use super::load::Shot;
use std::fmt::Write as _;

/// All rounds of one server in one row.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) shots: Vec<Shot>,
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

impl Column {
    pub(crate) fn median(&self, of: fn(&Shot) -> f64) -> f64 {
        median(self.shots.iter().map(of).collect())
    }

    /// The median of this server's figure as a multiple of another's in the same round.
    pub(crate) fn ratio(&self, to: &Self, of: fn(&Shot) -> f64) -> f64 {
        median(self.shots.iter().zip(&to.shots).map(|(own, other)| of(own) / of(other)).collect())
    }

    /// The share of user time, over all rounds: the kernel samples it too coarsely for one.
    fn user_share(&self) -> f64 {
        let user: f64 = self.shots.iter().map(|shot| shot.spent.user_ticks).sum();
        let system: f64 = self.shots.iter().map(|shot| shot.spent.system_ticks).sum();
        if user + system > 0.0 { user / (user + system) } else { 0.0 }
    }
}

/// One row of the measurement: a line per server, the figure of `base` being 1.00.
pub(crate) fn table(title: &str, base: &str, columns: &[Column]) -> String {
    let mut text = format!(
        "\n## {title}\n\n| server | CPU µs/request | × {base} | user µs | system µs | requests/s | × {base} | p50 ms \
         | p99 ms |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    let reference = columns.iter().find(|column| column.name == base);
    for column in columns {
        let cpu = column.median(Shot::cpu_us);
        let user = cpu * column.user_share();
        let times = |of: fn(&Shot) -> f64| {
            reference.map_or_else(|| "–".to_owned(), |base| format!("{:.2}", column.ratio(base, of)))
        };
        let _ = writeln!(
            text,
            "| {} | {cpu:.2} | {} | {user:.2} | {:.2} | {:.0} | {} | {} | {} |",
            column.name,
            times(Shot::cpu_us),
            cpu - user,
            column.median(|shot| shot.per_second),
            times(|shot| shot.per_second),
            latency(column.median(|shot| shot.p50_ms)),
            latency(column.median(|shot| shot.p99_ms)),
        );
    }
    text
}

/// A percentile in milliseconds. wrk says 0 where it cannot tell, as with several requests in one packet.
fn latency(milliseconds: f64) -> String {
    if milliseconds > 0.0 { format!("{milliseconds:.2}") } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cost::Spent;

    fn column(name: &'static str, nanoseconds: &[f64]) -> Column {
        let shot = |nanoseconds: &f64| Shot {
            requests: 1.0,
            per_second: 10.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            spent: Spent { nanoseconds: *nanoseconds, user_ticks: 1.0, system_ticks: 3.0 },
        };
        Column { name, shots: nanoseconds.iter().map(shot).collect() }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_latency_that_was_not_measured_is_no_figure() {
        assert_eq!((latency(0.0), latency(0.25)), ("–".to_owned(), "0.25".to_owned()));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let columns = [column("bare", &[1000.0, 2000.0, 4000.0]), column("ours", &[2000.0, 2200.0, 4400.0])];
        let text = table("Plain", "bare", &columns);
        assert!(text.contains("| bare | 2.00 | 1.00 | 0.50 | 1.50 |"), "{text}");
        assert!(text.contains("| ours | 2.20 | 1.10 | 0.55 | 1.65 |"), "{text}");
    }
}
