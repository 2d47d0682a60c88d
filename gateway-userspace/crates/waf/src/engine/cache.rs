//! Remembers what a value became in a pipeline or by one transformation, so that each is computed once.

use crate::{compile::pipeline::PipelineId, transformations::Transformation, variables::arena::Span};

/// Results remembered; a further one takes the place of another, which is then computed anew when needed.
const ENTRIES: usize = 1024;

/// Direct-mapped: a look-up is one comparison.
#[derive(Debug)]
pub(crate) struct TransformCache {
    entries: Box<[Entry]>,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: u64,
    pipeline: PipelineId,
    generation: u32,
    result: Span,
}

impl Default for TransformCache {
    fn default() -> Self {
        let entry = Entry { value: 0, pipeline: 0, generation: 0, result: Span::EMPTY };
        Self { entries: vec![entry; ENTRIES].into(), generation: 1 }
    }
}

impl TransformCache {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.entries.fill(Entry { value: 0, pipeline: 0, generation: 0, result: Span::EMPTY });
            self.generation = 1;
        }
    }

    #[inline]
    pub(crate) fn get(&self, value: Span, pipeline: PipelineId) -> Option<Span> {
        let entry = self.entries.get(slot(value, pipeline))?;
        let hit =
            entry.generation == self.generation && entry.value == value.key() && entry.pipeline == pipeline;
        hit.then_some(entry.result)
    }

    #[inline]
    pub(crate) fn put(&mut self, value: Span, pipeline: PipelineId, result: Span) {
        let generation = self.generation;
        if let Some(entry) = self.entries.get_mut(slot(value, pipeline)) {
            *entry = Entry { value: value.key(), pipeline, generation, result };
        }
    }
}

/// Stands for a transformation where a pipeline may stand; pipelines are numbered from the other end.
pub(crate) fn step(transformation: Transformation) -> PipelineId {
    PipelineId::MAX - transformation as PipelineId
}

#[inline]
fn slot(value: Span, pipeline: PipelineId) -> usize {
    let mixed = (value.key() ^ (pipeline as u64) << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 54) as usize % ENTRIES
}
