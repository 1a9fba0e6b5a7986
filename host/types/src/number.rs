//! Whole numbers as JSON has them.
//!
//! Contract: JSON has one kind of numbers, and its schema calls `2.0` an integer: [`whole`] reads that as what it is.

/// The whole number from 0 to `u32::MAX` that `number` is, where it is one.
#[must_use]
pub fn whole(number: f64) -> Option<u32> {
    let whole = number.fract() == 0.0 && number >= 0.0 && number <= f64::from(u32::MAX);
    // Exact, for it is within what the type holds.
    whole.then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_number_is_none() {
        for (number, expected) in [(0.0, Some(0)), (2.0, Some(2)), (4_294_967_295.0, Some(u32::MAX))] {
            assert_eq!(whole(number), expected);
        }
        for number in [-1.0, 0.5, 4_294_967_296.0, f64::NAN, f64::INFINITY] {
            assert_eq!(whole(number), None, "{number}");
        }
    }
}
