//! The shape of values that the command line gives, where the model's signature leaves it open.

use vespid_types::{Extent, Shape};

/// Why values take no shape of the signature; the text is for the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) String);

/// The shape of `rows` rows of `columns` values each (one row where the user wrote none).
///
/// One open extent follows from the number of values. Of several, the first is the number of rows, and one more may
/// follow from the values of a row.
pub(super) fn infer(spec: &[Extent], rows: usize, columns: usize) -> Result<Shape, Misfit> {
    let (rows, columns) = (rows as u64, columns as u64);
    let total = rows.saturating_mul(columns);
    let fixed: Option<Vec<u64>> = spec.iter().map(|extent| fixed(*extent)).collect();
    if let Some(extents) = fixed {
        let shape = Shape::from(extents.as_slice());
        return match shape.elements() {
            Some(elements) if elements == total => Ok(shape),
            _ => Err(misfit(spec, &values(total))),
        };
    }
    let open = spec.iter().filter(|extent| **extent == Extent::Any).count();
    if rows == 1 && open == 1 {
        return fill(spec, total).map(Shape::from_iter).ok_or_else(|| misfit(spec, &values(total)));
    }
    let Some((first, rest)) = spec.split_first() else { return Err(misfit(spec, &values(total))) };
    let counted =
        format!("{} of {}", if rows == 1 { "1 row".into() } else { format!("{rows} rows") }, values(columns));
    if fixed_or(*first, rows) != rows {
        return Err(misfit(spec, &counted));
    }
    let rest = fill(rest, columns).ok_or_else(|| misfit(spec, &counted))?;
    Ok(std::iter::once(rows).chain(rest).collect())
}

/// The extents with the open one, of which there may be one at most, set so that there are `total` elements.
fn fill(spec: &[Extent], total: u64) -> Option<Vec<u64>> {
    let product = spec.iter().filter_map(|extent| fixed(*extent)).try_fold(1_u64, u64::checked_mul)?;
    let open = match spec.iter().filter(|extent| **extent == Extent::Any).count() {
        0 if product == total => 1,
        1 if product != 0 && total.is_multiple_of(product) => total / product,
        _ => return None,
    };
    Some(spec.iter().map(|extent| fixed_or(*extent, open)).collect())
}

fn fixed(extent: Extent) -> Option<u64> {
    match extent {
        Extent::Any => None,
        Extent::Fixed(n) => Some(n),
    }
}

fn fixed_or(extent: Extent, open: u64) -> u64 {
    fixed(extent).unwrap_or(open)
}

fn values(n: u64) -> String {
    if n == 1 { "1 value".to_owned() } else { format!("{n} values") }
}

fn misfit(spec: &[Extent], given: &str) -> Misfit {
    Misfit(format!("{given} given for shape {} (-1 stands for any extent)", text(spec)))
}

/// A shape as the protocol writes it.
pub(crate) fn text(spec: &[Extent]) -> String {
    let extents: Vec<String> = spec.iter().map(|extent| extent.to_signed().to_string()).collect();
    format!("[{}]", extents.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(spec: &[i64], rows: usize, columns: usize) -> Result<Vec<u64>, String> {
        let spec: Vec<Extent> = spec.iter().map(|n| Extent::from_signed(*n).unwrap()).collect();
        infer(&spec, rows, columns).map(|shape| shape.to_vec()).map_err(|misfit| misfit.0)
    }

    #[test]
    fn one_open_extent_follows_from_the_number_of_values() {
        assert_eq!(shape(&[-1, 4], 1, 4).unwrap(), [1, 4]);
        assert_eq!(shape(&[-1, 4], 1, 8).unwrap(), [2, 4]);
        assert_eq!(shape(&[-1], 1, 3).unwrap(), [3]);
        assert_eq!(shape(&[1, -1], 1, 3).unwrap(), [1, 3]);
        assert_eq!(shape(&[2, -1, 2], 1, 12).unwrap(), [2, 3, 2]);
    }

    #[test]
    fn rows_are_the_first_dimension() {
        assert_eq!(shape(&[-1, 4], 2, 4).unwrap(), [2, 4]);
        assert_eq!(shape(&[-1, -1], 2, 3).unwrap(), [2, 3]);
        assert_eq!(shape(&[-1, -1], 1, 3).unwrap(), [1, 3]);
        assert_eq!(shape(&[-1], 3, 1).unwrap(), [3]);
        assert_eq!(shape(&[-1, 2, -1], 2, 6).unwrap(), [2, 2, 3]);
    }

    #[test]
    fn fixed_shapes_take_their_number_of_values() {
        assert_eq!(shape(&[], 1, 1).unwrap(), [0_u64; 0]);
        assert_eq!(shape(&[2, 3], 2, 3).unwrap(), [2, 3]);
        assert_eq!(shape(&[2, 3], 1, 6).unwrap(), [2, 3]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(
            shape(&[-1, 4], 1, 5).unwrap_err(),
            "5 values given for shape [-1, 4] (-1 stands for any extent)"
        );
        assert_eq!(
            shape(&[-1, 4], 2, 3).unwrap_err(),
            "2 rows of 3 values given for shape [-1, 4] (-1 stands for any extent)"
        );
        assert!(shape(&[2, -1], 3, 1).is_err());
        assert!(shape(&[-1, -1, -1], 1, 6).is_err());
        assert!(shape(&[-1, 0], 1, 6).is_err());
        assert!(shape(&[3], 1, 2).is_err());
        assert!(shape(&[], 1, 2).is_err());
    }
}
