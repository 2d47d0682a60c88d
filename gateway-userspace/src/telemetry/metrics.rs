//! The metrics page: every part writes its own lines, in the Prometheus text format.

use std::fmt::Write;

/// Writes the lines of one part. Called for each scrape; must not block.
pub type Source = Box<dyn Fn(&mut dyn Write) -> std::fmt::Result + Send + Sync>;

/// The parts that have metrics, in the order in which they were added.
#[derive(Default)]
pub struct Registry {
    sources: Vec<Source>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("sources", &self.sources.len()).finish()
    }
}

impl Registry {
    /// Adds a part.
    pub fn add(&mut self, source: impl Fn(&mut dyn Write) -> std::fmt::Result + Send + Sync + 'static) {
        self.sources.push(Box::new(source));
    }

    /// The whole page.
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(16 << 10);
        for source in &self.sources {
            // Writing to a String can't fail; a part that fails on its own loses only its own lines.
            let _ = source(&mut page);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order() {
        let mut registry = Registry::default();
        registry.add(|out| writeln!(out, "a 1"));
        registry.add(|out| writeln!(out, "b 2"));
        assert_eq!(registry.render(), "a 1\nb 2\n");
    }
}
