//! Transformation pipelines as a trie: pipelines that begin alike share what they compute.

use crate::transformations::Transformation;

/// A pipeline: the node that its last transformation leads to; 0 is the value as it is.
pub(crate) type PipelineId = u16;

/// Most distinct pipeline prefixes of a rule set; more is an error at load.
pub(crate) const PIPELINES_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Pipelines {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    /// The nodes from the first transformation to this one, with it.
    path: Box<[(PipelineId, Transformation)]>,
}

impl Default for Pipelines {
    fn default() -> Self {
        Self { nodes: vec![Node { path: Box::default() }] }
    }
}

impl Pipelines {
    /// The pipeline of these transformations, none beyond [`PIPELINES_MAX`].
    pub(crate) fn intern(&mut self, list: &[Transformation]) -> Option<PipelineId> {
        let mut path: Vec<(PipelineId, Transformation)> = Vec::with_capacity(list.len());
        for transformation in list {
            let known = self.nodes.iter().position(|n| {
                n.path
                    .split_last()
                    .is_some_and(|(last, before)| last.1 == *transformation && *before == *path)
            });
            let id = match known {
                Some(id) => id as PipelineId,
                None if self.nodes.len() >= PIPELINES_MAX => return None,
                None => {
                    let id = self.nodes.len() as PipelineId;
                    let mut own = path.clone();
                    own.push((id, *transformation));
                    self.nodes.push(Node { path: own.into() });
                    id
                }
            };
            path.push((id, *transformation));
        }
        Some(path.last().map_or(0, |p| p.0))
    }

    /// The transformations of a pipeline in order, each with the node it leads to.
    #[inline]
    pub(crate) fn path(&self, id: PipelineId) -> &[(PipelineId, Transformation)] {
        self.nodes.get(id as usize).map_or(&[], |n| &n.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_shared() {
        use Transformation::{Lowercase, RemoveNulls};
        let mut pipelines = Pipelines::default();
        assert_eq!(pipelines.intern(&[]), Some(0));
        let ab = pipelines.intern(&[Lowercase, RemoveNulls]);
        let a = pipelines.intern(&[Lowercase]);
        let b = pipelines.intern(&[RemoveNulls]);
        assert_eq!((a, ab, b), (Some(1), Some(2), Some(3)));
        assert_eq!(pipelines.path(2), [(1, Lowercase), (2, RemoveNulls)]);
    }
}
