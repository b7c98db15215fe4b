//! A network namespace for one test, and the tools that run in it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs a test on a thread of its own, in a network namespace of its own. Sockets and processes of
/// that thread are in it; the thread that called never leaves the host's.
pub fn in_namespace(test: impl FnOnce() + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "needs root: the test makes a network namespace and changes the kernel's tables in it"
    );
    let namespace = Namespace::new();
    let file = File::open(format!("/run/netns/{}", namespace.name)).unwrap();
    let result = std::thread::scope(|scope| {
        let work = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test();
        };
        scope.spawn(work).join()
    });
    drop(namespace);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program with arguments divided by spaces; a failure fails the test.
pub fn run(line: &str) -> String {
    feed(line, "")
}

/// As `run`, with standard input.
pub fn feed(line: &str, input: &str) -> String {
    let output = output(line, input);
    let failure = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{input}\n{failure}");
    String::from_utf8(output.stdout).unwrap()
}

fn output(line: &str, input: &str) -> Output {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("needs {program}: integration/setup/packages.sh installs its package")
        }
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // What a program that fails leaves unread is of no interest.
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output().unwrap()
    })
}

/// Removed when dropped, whatever became of the test.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("nf-test-{}-{number}", std::process::id());
        run(&format!("ip netns add {name}"));
        Self { name }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        output(&format!("ip netns del {}", self.name), "");
    }
}
