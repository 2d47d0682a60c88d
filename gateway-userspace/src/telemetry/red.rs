//! Rate, errors and durations of one thing, and of many things by name.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, microseconds.
const BUCKETS: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000, 10_000_000];
/// Things that are counted by name; further ones are counted together as [`OTHER`].
pub const MAX_NAMED: usize = 256;
/// The name of everything past [`MAX_NAMED`].
pub const OTHER: &str = "other";

/// Counts of one thing.
#[derive(Debug, Default)]
pub struct Red {
    /// By hundreds of the status: 1xx to 5xx.
    classes: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Red {
    /// One request was answered with `status` after `took`.
    pub fn count(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        let bucket = BUCKETS.iter().position(|b| micros <= *b).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes the lines of the counter by class. `label` stands before the class: `route="x",`, or nothing.
    fn write_classes(&self, out: &mut dyn Write, name: &str, label: &str) -> fmt::Result {
        for (i, class) in self.classes.iter().enumerate() {
            let count = class.load(Ordering::Relaxed);
            writeln!(out, "{name}{{{label}class=\"{}xx\"}} {count}", i + 1)?;
        }
        Ok(())
    }

    fn write_histogram(&self, out: &mut dyn Write, name: &str, label: &str) -> fmt::Result {
        let mut sum = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Ordering::Relaxed);
            match BUCKETS.get(i) {
                Some(bound) => {
                    writeln!(out, "{name}_bucket{{{label}le=\"{}\"}} {sum}", *bound as f64 / 1e6)?;
                }
                None => writeln!(out, "{name}_bucket{{{label}le=\"+Inf\"}} {sum}")?,
            }
        }
        let braced = match label.trim_end_matches(',') {
            "" => String::new(),
            label => format!("{{{label}}}"),
        };
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(out, "{name}_sum{braced} {seconds}\n{name}_count{braced} {sum}")
    }
}

/// Counts by name, at most [`MAX_NAMED`] of them.
#[derive(Debug, Default)]
pub struct RedByName {
    named: HashMap<Arc<str>, Arc<Red>>,
    other: Arc<Red>,
}

impl RedByName {
    /// Counts for `names`; what was counted `before` under the same name goes on.
    pub fn new<'a>(names: impl Iterator<Item = &'a Arc<str>>, before: Option<&Self>) -> Self {
        let named = names
            .take(MAX_NAMED)
            .map(|name| {
                let known = before.and_then(|b| b.named.get(name)).cloned();
                (Arc::clone(name), known.unwrap_or_default())
            })
            .collect();
        Self { named, other: before.map(|b| Arc::clone(&b.other)).unwrap_or_default() }
    }

    /// The counts of a name.
    pub fn of(&self, name: &str) -> &Red {
        self.named.get(name).unwrap_or(&self.other)
    }

    /// Writes a counter by class and a histogram, each thing with the label `what`.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(&self, out: &mut dyn Write, what: &str, counter: Series, histogram: Series) -> fmt::Result {
        let mut all: Vec<(&str, &Red)> = self.named.iter().map(|(name, red)| (&**name, &**red)).collect();
        all.sort_by_key(|(name, _)| *name);
        all.push((OTHER, &self.other));
        let (name, help) = counter;
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")?;
        for (of, red) in &all {
            red.write_classes(out, name, &format!("{what}=\"{of}\","))?;
        }
        let (name, help) = histogram;
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        for (of, red) in &all {
            red.write_histogram(out, name, &format!("{what}=\"{of}\","))?;
        }
        Ok(())
    }
}

/// A metric's name and its help.
pub type Series = (&'static str, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_counts_survive() {
        let names: Vec<Arc<str>> = (0..MAX_NAMED + 10).map(|n| format!("r{n:04}").into()).collect();
        let before = RedByName::new(names.iter(), None);
        before.of("r0001").count(204, Duration::from_millis(3));
        before.of("r0260").count(502, Duration::from_secs(60));
        before.of("never heard of").count(404, Duration::ZERO);
        let after = RedByName::new(names.iter().skip(1).take(1), Some(&before));
        after.of("r0001").count(200, Duration::from_micros(1));
        let mut text = String::new();
        after.write(&mut text, "route", ("n", "help"), ("s", "help")).expect("written");
        for line in [
            "n{route=\"r0001\",class=\"2xx\"} 2",
            "n{route=\"other\",class=\"5xx\"} 1",
            "n{route=\"other\",class=\"4xx\"} 1",
            "s_bucket{route=\"r0001\",le=\"0.0025\"} 1",
            "s_bucket{route=\"r0001\",le=\"0.005\"} 2",
            "s_bucket{route=\"other\",le=\"10\"} 1",
            "s_bucket{route=\"other\",le=\"+Inf\"} 2",
            "s_count{route=\"r0001\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let mut text = String::new();
        before.write(&mut text, "route", ("n", "help"), ("s", "help")).expect("written");
        assert_eq!(text.lines().filter(|l| l.starts_with("n{")).count(), (MAX_NAMED + 1) * 5);
    }
}
