//! Text of others on a terminal: what clients of the API wrote must not move the cursor, nor forge lines.

use std::borrow::Cow;

/// The text with its control characters written out: `\n`, `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out_and_the_rest_stays() {
        assert_eq!(plain("rr\u{1b}[2J\nzone é"), "rr\\u{1b}[2J\\nzone é");
        assert!(matches!(plain("shop/web → ready"), Cow::Borrowed(_)));
        // 8-bit control sequences are as good as those with an escape.
        assert_eq!(plain("\u{9b}31m"), "\\u{9b}31m");
    }
}
