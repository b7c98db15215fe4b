//! Numbers in five columns.

/// A rate: `-` before it is known, `0.5`, `12`, `340`, `1.2k`, `99.9k`, `123k`, `1.0M`; thousands are 1,000.
pub fn rate(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 9.95 && value.fract() >= 0.05 => format!("{value:.1}"),
        Some(value) => short(value),
    }
}

/// A number of things, the same way without fractions of one.
pub fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| short(value as f64))
}

fn short(value: f64) -> String {
    if value < 999.5 {
        return format!("{value:.0}");
    }
    let mut value = value;
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_fit_in_five_columns() {
        let cases = [
            (0.0, "0"),
            (0.04, "0"),
            (0.5, "0.5"),
            (1.0, "1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (1234.0, "1.2k"),
            (99_940.0, "99.9k"),
            (99_960.0, "100k"),
            (999_499.0, "999k"),
            (999_600.0, "1.0M"),
            (12_345_678.0, "12.3M"),
            (5e9, "5.0G"),
            (7e12, "7.0T"),
        ];
        for (value, text) in cases {
            assert_eq!(rate(Some(value)), text);
            assert!(text.len() <= 5);
        }
        assert_eq!(rate(None), "-");
        assert_eq!(count(Some(1_000_000)), "1.0M");
        assert_eq!(count(Some(999)), "999");
    }
}
