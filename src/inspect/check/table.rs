//! What a person sees: one line for each finding, and below it what to do. Pure.

use std::fmt::Write;

use super::{Level, Report};

/// The report as text. `colour`: levels stand out.
pub fn render(report: &Report, colour: bool) -> String {
    let width = |text: fn(&super::Finding) -> &str| {
        let findings = report.findings.iter();
        findings
            .map(|finding| text(finding).len())
            .max()
            .unwrap_or(0)
    };
    let name_width = width(|finding| finding.check);
    let mut out = String::new();
    for finding in &report.findings {
        let level = format!("{:<4}", finding.level.name());
        let level = if colour {
            format!("{}{level}\u{1b}[0m", paint(finding.level))
        } else {
            level
        };
        let _ = writeln!(
            out,
            "{level}  {:<name_width$}  {}",
            finding.check, finding.found
        );
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "      {:<name_width$}  → {remedy}", "");
        }
    }
    out
}

/// One line that counts them.
pub fn summary(report: &Report) -> String {
    let count = |level| {
        let findings = report.findings.iter();
        findings.filter(|finding| finding.level == level).count()
    };
    format!(
        "{} ok, {} to look at, {} failed\n",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    )
}

fn paint(level: Level) -> &'static str {
    match level {
        Level::Ok => "\u{1b}[32m",
        Level::Warn => "\u{1b}[33m",
        Level::Fail => "\u{1b}[1;31m",
    }
}
