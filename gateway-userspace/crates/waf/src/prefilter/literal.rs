//! Literals that a match must have one of.

use super::node::Node;

/// Most literals that stand for a fragment.
const COVER_MAX: usize = 1500;
/// Most strings of a run while it grows by classes and alternations.
const RUN_MAX: usize = 64;
/// Largest class that is spelled out.
const CLASS_MAX: u32 = 8;
/// Longest literal; what comes after is left to the operator.
pub(super) const LITERAL_MAX: usize = 16;
/// Shortest literal worth looking for: single bytes are the mask's business.
pub(super) const LITERAL_MIN: usize = 2;

/// Literals of which every match has one, in lower case.
pub(super) type Cover = Vec<Vec<u8>>;

/// The best cover of a sequence, if there is one whose literals are long enough.
pub(super) fn cover(parts: &[&Node]) -> Option<Cover> {
    let mut best = None;
    let mut run = Run::new();
    for part in parts {
        run.take(part, &mut best);
    }
    run.finish(&mut best);
    best.map(|(_, cover)| cover)
}

/// The longest shortest literal first, then the fewest literals.
type Score = (usize, isize);

fn offer(best: &mut Option<(Score, Cover)>, mut cover: Cover) {
    cover.iter_mut().for_each(|literal| literal.truncate(LITERAL_MAX));
    cover.sort();
    cover.dedup();
    let shortest = cover.iter().map(Vec::len).min().unwrap_or(0);
    if shortest < LITERAL_MIN || cover.len() > COVER_MAX {
        return;
    }
    // Past six bytes more length selects little; fewer literals count then.
    let score = (shortest.min(6), -(cover.len() as isize));
    if best.as_ref().is_none_or(|(known, _)| score > *known) {
        *best = Some((score, cover));
    }
}

/// Strings that stand at one place of every match, growing to the right.
struct Run {
    strings: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        Self { strings: vec![Vec::new()] }
    }

    fn take(&mut self, part: &Node, best: &mut Option<(Score, Cover)>) {
        match part {
            Node::Empty | Node::Start | Node::End => {}
            Node::Concat(parts) => parts.iter().for_each(|part| self.take(part, best)),
            Node::Repeat { min, max, node } if *min > 0 => {
                for _ in 0..(*min).min(4) {
                    self.take(node, best);
                }
                if *max != Some(*min) || *min > 4 {
                    self.finish(best);
                }
            }
            _ => match language(part, RUN_MAX) {
                Some(strings) if self.fits(&strings) => self.append(&strings),
                Some(strings) => {
                    self.finish(best);
                    self.append(&strings);
                }
                None => {
                    self.finish(best);
                    if let Node::Either(parts) = part
                        && let Some(all) = cover_of_either(parts)
                    {
                        offer(best, all);
                    }
                }
            },
        }
    }

    fn fits(&self, strings: &[Vec<u8>]) -> bool {
        self.strings.len() * strings.len() <= RUN_MAX
    }

    fn append(&mut self, strings: &[Vec<u8>]) {
        let mut longer = Vec::with_capacity(self.strings.len() * strings.len());
        for left in &self.strings {
            // A full literal stays: its continuation selects nothing more.
            if left.len() >= LITERAL_MAX {
                longer.push(left.clone());
                continue;
            }
            for right in strings {
                longer.push([left.as_slice(), right].concat());
            }
        }
        self.strings = longer;
    }

    fn finish(&mut self, best: &mut Option<(Score, Cover)>) {
        let strings = std::mem::replace(&mut self.strings, vec![Vec::new()]);
        offer(best, strings);
    }
}

fn cover_of_either(parts: &[Node]) -> Option<Cover> {
    let mut all = Cover::new();
    for part in parts {
        all.extend(cover(&[part])?);
        if all.len() > COVER_MAX {
            return None;
        }
    }
    Some(all)
}

/// All strings of a node, if they are few.
fn language(node: &Node, limit: usize) -> Option<Vec<Vec<u8>>> {
    match node {
        Node::Empty | Node::Start | Node::End => Some(vec![Vec::new()]),
        Node::Never => Some(Vec::new()),
        Node::Byte(set) => (set.len() <= CLASS_MAX).then(|| set.iter().map(|byte| vec![byte]).collect()),
        Node::Concat(parts) => {
            let mut strings = vec![Vec::new()];
            for part in parts {
                let right = language(part, limit)?;
                if strings.len() * right.len() > limit {
                    return None;
                }
                strings = strings
                    .iter()
                    .flat_map(|l: &Vec<u8>| right.iter().map(|r| [l.as_slice(), r].concat()))
                    .collect();
            }
            Some(strings)
        }
        Node::Either(parts) => {
            let mut strings = Vec::new();
            for part in parts {
                strings.extend(language(part, limit)?);
                if strings.len() > limit {
                    return None;
                }
            }
            Some(strings)
        }
        Node::Repeat { min: 0, max: Some(1), node } => {
            let mut strings = language(node, limit)?;
            strings.push(Vec::new());
            (strings.len() <= limit).then_some(strings)
        }
        Node::Repeat { .. } => None,
    }
}
