//! The rows of a tensor, which its first dimension counts.
//!
//! Cost: a row shares the tensor's data. Of a tensor without a dimension there is none.

use vespid_types::{Elements, Shape, Tensor};

/// The rows, each a tensor of its own.
pub(super) struct Rows<'a> {
    tensor: &'a Tensor,
    /// The shape of a row.
    row: Shape,
    elements: Elements<'a>,
    at: usize,
    left: u64,
}

impl<'a> Rows<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        let (left, row) = tensor.shape().split_first().map_or((0, &[][..]), |(rows, row)| (*rows, row));
        Self { tensor, row: Shape::from(row), elements: tensor.elements(), at: 0, left }
    }
}

impl Iterator for Rows<'_> {
    type Item = Tensor;

    fn next(&mut self) -> Option<Tensor> {
        self.left = self.left.checked_sub(1)?;
        let width = usize::try_from(self.row.elements()?).ok()?;
        let datatype = self.tensor.datatype();
        let end = match datatype.size() {
            Some(size) => self.at.checked_add(width.checked_mul(size)?)?,
            None => self.elements.by_ref().take(width).last().map_or(self.at, |last| last.end),
        };
        let data = self.tensor.data().slice(self.at..end);
        self.at = end;
        Tensor::new(datatype, self.row.clone(), data).ok()
    }
}
