//! Which groups of rows a condition rules out, from the least and greatest values of their columns.

use arrow::array::{Array, ArrayRef, BooleanArray};

use super::Condition;
use super::compare::{Comparison, Operator};

impl Condition {
    /// Whether any row of each group may be wanted. What nothing is known of may be.
    pub(super) fn possible(
        &self,
        groups: usize,
        bounds: &dyn Fn(&str) -> Option<(ArrayRef, ArrayRef)>,
    ) -> Vec<bool> {
        let merge = |parts: &[Self], start: bool, join: fn(bool, bool) -> bool| {
            parts.iter().fold(vec![start; groups], |so_far, part| {
                let next = part.possible(groups, bounds);
                so_far.into_iter().zip(next).map(|(left, right)| join(left, right)).collect()
            })
        };
        match self {
            Self::All(parts) => merge(parts, true, |left, right| left && right),
            Self::Any(parts) => merge(parts, false, |left, right| left || right),
            Self::Constant(value) => vec![*value == Some(true); groups],
            Self::Compare(comparison) => {
                comparison_possible(comparison, groups, bounds).unwrap_or_else(|| vec![true; groups])
            }
            Self::Column(_) | Self::Like(_) | Self::IsNull(_) | Self::IsNotNull(_) | Self::Not(_) => {
                vec![true; groups]
            }
        }
    }
}

fn comparison_possible(
    comparison: &Comparison,
    groups: usize,
    bounds: &dyn Fn(&str) -> Option<(ArrayRef, ArrayRef)>,
) -> Option<Vec<bool>> {
    let (least, greatest) = bounds(comparison.bounded_column()?)?;
    // Not-a-number is in no statistics, and is greater than any number where rows are compared.
    if least.data_type().is_floating() || least.len() != groups || greatest.len() != groups {
        return None;
    }
    let may = |operator, values: &ArrayRef| -> Option<Vec<bool>> {
        let known: BooleanArray = comparison.with_values(operator, values)?;
        Some(known.iter().map(|value| value.unwrap_or(true)).collect())
    };
    match comparison.operator {
        Operator::Less | Operator::LessOrEqual => may(comparison.operator, &least),
        Operator::Greater | Operator::GreaterOrEqual => may(comparison.operator, &greatest),
        Operator::Equal => {
            let least = may(Operator::LessOrEqual, &least)?;
            let greatest = may(Operator::GreaterOrEqual, &greatest)?;
            Some(least.into_iter().zip(greatest).map(|(least, greatest)| least && greatest).collect())
        }
        Operator::NotEqual => None,
    }
}
