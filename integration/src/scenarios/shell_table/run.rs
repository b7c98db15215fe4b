//! Runs a program in a node, with what it reads and prints.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::guest::namespace::inside;

/// What a program printed, and how it ended.
pub struct Output {
    pub text: String,
    pub errors: String,
    pub code: Option<i32>,
}

/// The beginning is enough in a message.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text.chars().take(1000).collect();
        write!(f, "{:?}, {:?}, {text:?}", self.code, self.errors)
    }
}

/// Messages are each program's own.
impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.code) == (&other.text, other.code)
    }
}

impl Output {
    /// Both, for a message; lines that differ first.
    pub fn beside(&self, other: &Self) -> String {
        let lines = self.text.lines().zip(other.text.lines());
        let differ = lines.enumerate().find(|(_, (a, b))| a != b);
        format!("first difference {differ:?}\nthis {self:?}\nthat {other:?}")
    }
}

/// Runs it in a node.
pub fn run(node: &str, words: &[&str], input: &str) -> Result<Output> {
    let (program, args) = words.split_first().context("an empty command")?;
    inside(node, || {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let mut stdin = child.stdin.take().context("no input")?;
        let input = input.to_owned();
        // Who reads nothing may be gone before everything is written.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output()?;
        drop(writer.join());
        Ok(Output {
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    })?
}
