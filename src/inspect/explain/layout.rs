//! Lines in columns, and colours.

use std::fmt::Write;

use crate::inspect::plain::plain;

/// Rows whose columns stand below each other, two blanks apart, behind an indent of two. The last column
/// is as wide as it is.
pub fn table(text: &mut String, rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = Vec::new();
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(i) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    for row in &rows {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// A heading, bold on a terminal.
pub fn heading(text: &mut String, title: &str, colours: bool) {
    let title = plain(title);
    let _ = match colours {
        true => writeln!(text, "\n\x1b[1m{title}\x1b[0m"),
        false => writeln!(text, "\n{title}"),
    };
}

/// Words in green or red on a terminal.
pub fn verdict(words: &str, good: bool, colours: bool) -> String {
    match (colours, good) {
        (false, _) => words.to_owned(),
        (true, true) => format!("\x1b[32m{words}\x1b[0m"),
        (true, false) => format!("\x1b[31m{words}\x1b[0m"),
    }
}
