//! Where a guest's lines go: to standard output at once, or, where guests run side by side, held until
//! the story that they tell has ended, so that no two guests' stories are mixed.

use std::io::Write;

/// Prints what is still held when dropped.
#[derive(Debug, Default)]
pub struct Console {
    holds: bool,
    held: String,
}

impl Console {
    /// Prints at once.
    pub fn live() -> Self {
        Self::default()
    }

    /// Prints a story at a time.
    pub fn held() -> Self {
        Self {
            holds: true,
            held: String::new(),
        }
    }

    pub fn say(&mut self, line: &str) {
        self.held.push_str(line);
        self.held.push('\n');
        if !self.holds {
            self.print();
        }
    }

    /// A story has ended; so have its lines.
    pub fn story_ended(&mut self) {
        self.print();
    }

    /// In one piece. A reader who went away does not end the run: its verdict is an exit status too.
    fn print(&mut self) {
        let text = std::mem::take(&mut self.held);
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.print();
    }
}
