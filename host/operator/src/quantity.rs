//! Amounts as Kubernetes writes them: `1500m`, `8Gi`, `12e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// How many bytes, rounded down; none for what is no amount, or below one.
pub(crate) fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let end =
        text.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    let bytes = number * factor(suffix)?;
    (bytes >= 1.0 && bytes < 2f64.powi(63)).then_some(bytes as u64)
}

fn factor(suffix: &str) -> Option<f64> {
    const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let power =
        |list: &[&str]| list.iter().position(|known| *known == suffix).and_then(|at| i32::try_from(at).ok());
    if let Some(power) = power(&BINARY) {
        return Some(1024f64.powi(power + 1));
    }
    if let Some(power) = power(&DECIMAL) {
        return Some(1000f64.powi(power));
    }
    match suffix {
        "m" => Some(1e-3),
        "u" => Some(1e-6),
        "n" => Some(1e-9),
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok().map(|exponent: i32| 10f64.powi(exponent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_amount_is_read() {
        for (text, expected) in [
            ("128974848", Some(128_974_848)),
            ("129e6", Some(129_000_000)),
            ("129M", Some(129_000_000)),
            ("128974848000m", Some(128_974_848)),
            ("123Mi", Some(128_974_848)),
            ("1.5Gi", Some(1_610_612_736)),
            ("2k", Some(2000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1E3", Some(1000)),
            ("0", None),
            ("-1Gi", None),
            ("1GB", None),
            ("much", None),
            ("", None),
        ] {
            assert_eq!(bytes(&Quantity(text.to_owned())), expected, "{text}");
        }
    }
}
