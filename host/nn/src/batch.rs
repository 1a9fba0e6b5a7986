//! Several calls' tensors as one batch, and back.
//!
//! Contract: the first dimension of a tensor is its rows. Inputs of calls that [`fit`] are put one after another; outputs
//! are cut at the same rows. Cost: joining copies each input once, for a backend takes one stretch of memory; cutting
//! shares the output's memory.

use bytes::Bytes;
use vespid_types::{Datatype, NamedTensor, Shape, Tensor, TensorError, note_copy};

/// The rows that all of `inputs` have; `None` where they differ, or one has no dimension.
pub(crate) fn rows(inputs: &[NamedTensor]) -> Option<u64> {
    let mut extents = inputs.iter().map(|input| input.tensor.shape().first().copied());
    let first = extents.next()??;
    extents.all(|extent| extent == Some(first)).then_some(first)
}

/// Whether two calls' inputs, both in the signature's order, are alike in all but their rows.
pub(crate) fn fit(one: &[NamedTensor], other: &[NamedTensor]) -> bool {
    let alike = |(one, other): (&NamedTensor, &NamedTensor)| {
        one.name == other.name
            && one.tensor.datatype() == other.tensor.datatype()
            && one.tensor.shape().get(1..) == other.tensor.shape().get(1..)
    };
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

/// The inputs of calls that fit, as one call's with all of their rows.
pub(crate) fn join(calls: &[&[NamedTensor]]) -> Result<Vec<NamedTensor>, TensorError> {
    let Some((first, _)) = calls.split_first() else { return Ok(Vec::new()) };
    (0..first.len())
        .map(|position| {
            let parts: Vec<&NamedTensor> = calls.iter().filter_map(|inputs| inputs.get(position)).collect();
            join_one(&parts)
        })
        .collect::<Result<Vec<_>, _>>()
        .map(|joined| joined.into_iter().flatten().collect())
}

fn join_one(parts: &[&NamedTensor]) -> Result<Option<NamedTensor>, TensorError> {
    let Some(first) = parts.first() else { return Ok(None) };
    let length = parts.iter().map(|part| part.tensor.data().len()).sum();
    // A copy: each part lies where its own call put it.
    let mut data = Vec::with_capacity(length);
    parts.iter().for_each(|part| data.extend_from_slice(part.tensor.data()));
    note_copy(length);
    let rows = parts.iter().filter_map(|part| part.tensor.shape().first()).sum();
    let shape = with_rows(first.tensor.shape(), rows);
    let tensor = Tensor::new(first.tensor.datatype(), shape, data.into())?;
    Ok(Some(NamedTensor { name: first.name.clone(), tensor }))
}

/// Cuts outputs at the given rows: the outputs of each call. `None` where an output does not have as many rows as all
/// calls together, so that it cannot be told whose they are.
pub(crate) fn split(outputs: Vec<NamedTensor>, rows: &[u64]) -> Option<Vec<Vec<NamedTensor>>> {
    let mut calls: Vec<Vec<NamedTensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for NamedTensor { name, tensor } in outputs {
        for (outputs, tensor) in calls.iter_mut().zip(split_one(&tensor, rows)?) {
            outputs.push(NamedTensor { name: name.clone(), tensor });
        }
    }
    Some(calls)
}

fn split_one(tensor: &Tensor, rows: &[u64]) -> Option<Vec<Tensor>> {
    if *tensor.shape().first()? != rows.iter().sum() {
        return None;
    }
    let ends = ends(tensor, rows)?;
    let mut start = 0;
    let parts = rows.iter().zip(ends).map(|(rows, end)| {
        let data: Bytes = tensor.data().slice(start..end);
        start = end;
        Tensor::new(tensor.datatype(), with_rows(tensor.shape(), *rows), data).ok()
    });
    parts.collect()
}

/// Where in the data each call's rows end.
fn ends(tensor: &Tensor, rows: &[u64]) -> Option<Vec<usize>> {
    let row =
        tensor.shape().iter().skip(1).try_fold(1_u64, |product, extent| product.checked_mul(*extent))?;
    let mut last = 0_u64;
    let mut elements = tensor.elements();
    let mut end = 0;
    rows.iter()
        .map(|rows| {
            let count = rows.checked_mul(row)?;
            if tensor.datatype() == Datatype::Bytes {
                for _ in 0..count {
                    end = elements.next()?.end;
                }
                return Some(end);
            }
            last = last.checked_add(count.checked_mul(tensor.datatype().size()? as u64)?)?;
            usize::try_from(last).ok().filter(|end| *end <= tensor.data().len())
        })
        .collect()
}

fn with_rows(shape: &Shape, rows: u64) -> Shape {
    std::iter::once(rows).chain(shape.iter().skip(1).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, shape: &[u64], values: &[i32]) -> NamedTensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Tensor::new(Datatype::Int32, Shape::from(shape), data.into()).unwrap();
        NamedTensor { name: name.to_owned(), tensor }
    }

    fn texts(shape: &[u64], texts: &[&str]) -> NamedTensor {
        let tensor = Tensor::from_elements(Shape::from(shape), texts).unwrap();
        NamedTensor { name: "t".to_owned(), tensor }
    }

    #[test]
    fn what_is_joined_is_split_as_it_was() {
        let calls = [
            vec![numbers("n", &[1, 2], &[1, 2]), texts(&[1], &["a"])],
            vec![numbers("n", &[2, 2], &[3, 4, 5, 6]), texts(&[2], &["", "bcd"])],
            vec![numbers("n", &[0, 2], &[]), texts(&[0], &[])],
        ];
        let parts: Vec<&[NamedTensor]> = calls.iter().map(Vec::as_slice).collect();
        assert!(fit(parts[0], parts[1]) && fit(parts[0], parts[2]));
        let joined = join(&parts).unwrap();
        assert_eq!(joined, [numbers("n", &[3, 2], &[1, 2, 3, 4, 5, 6]), texts(&[3], &["a", "", "bcd"])]);
        let rows: Vec<u64> = parts.iter().map(|inputs| rows(inputs).unwrap()).collect();
        assert_eq!(rows, [1, 2, 0]);
        assert_eq!(split(joined, &rows).unwrap(), calls);
    }

    #[test]
    fn what_differs_in_more_than_rows_does_not_fit() {
        let one = [numbers("n", &[1, 2], &[1, 2])];
        assert!(!fit(&one, &[numbers("m", &[1, 2], &[1, 2])]));
        assert!(!fit(&one, &[numbers("n", &[1, 1], &[1])]));
        assert!(!fit(&one, &[numbers("n", &[2], &[1, 2])]));
        assert!(!fit(&one, &[]));
        assert_eq!(rows(&[numbers("n", &[1, 2], &[1, 2]), numbers("m", &[2], &[1, 2])]), None);
        assert_eq!(rows(&[numbers("n", &[], &[1])]), None);
    }

    #[test]
    fn an_output_without_the_calls_rows_is_nobodys() {
        assert_eq!(split(vec![numbers("n", &[1], &[7])], &[1, 1]), None);
        assert_eq!(split(vec![numbers("n", &[], &[7])], &[1]), None);
    }
}
