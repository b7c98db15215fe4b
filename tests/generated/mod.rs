//! Tables of documents that the program's own definitions make.

use std::fs;
use std::path::Path;

/// Holds the tables of a document, each behind the comment with its name, to what they must be.
/// `UPDATE_DOCS=1` writes them; `test` is whose they are.
pub fn hold(document: &str, tables: &[(&str, String)], test: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).unwrap();
    let mut wanted = text.clone();
    for (name, table) in tables {
        let begin = wanted.find(&format!("<!-- {name}:")).unwrap();
        let begin = begin + wanted[begin..].find('\n').unwrap() + 1;
        let end = begin + wanted[begin..].find("<!-- end -->").unwrap();
        wanted.replace_range(begin..end, table);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "{document} has other tables: UPDATE_DOCS=1 cargo test --test {test}"
        );
    }
}
