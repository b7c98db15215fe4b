//! The forms of the exposition: OpenMetrics text, which the registry writes, and Prometheus' own
//! older text, which everything reads.
//!
//! They differ in the lines about a metric: in Prometheus' text those of a counter have its whole
//! name, units have no line, and nothing marks the end. Pure.

/// A form of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The form that an `Accept` header prefers. Who does not ask for OpenMetrics by name gets the
    /// older one.
    pub fn of_accept(header: Option<&str>) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in header.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=")?.trim().parse::<f64>().ok())
                .unwrap_or(1.0);
            match media.as_str() {
                "application/openmetrics-text" => open = quality.max(open),
                "text/plain" | "text/*" => plain = quality.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The same metrics in this form.
    pub fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => prometheus(&text),
        }
    }
}

/// OpenMetrics text in Prometheus' own form.
fn prometheus(open: &str) -> String {
    let mut plain = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        let Some(about) = line.strip_prefix("# ") else {
            plain.push_str(line);
            plain.push('\n');
            continue;
        };
        match about.split_once(' ') {
            Some(("HELP", rest)) => help = rest.split_once(' ').map(|(_, text)| text),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                let help = help.take().unwrap_or_default();
                plain.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                plain.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            // Units and the end.
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers that Prometheus 2.42 and 3.0 send, and those of people.
    #[test]
    fn who_asks_for_open_metrics_by_name_gets_it() {
        let form = |header| Format::of_accept(Some(header));
        for header in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "Application/OpenMetrics-Text",
        ] {
            assert_eq!(form(header), Format::OpenMetrics, "{header}");
        }
        for header in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "text/plain, application/openmetrics-text; q=0.9",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(form(header), Format::Prometheus, "{header}");
        }
        assert_eq!(Format::of_accept(None), Format::Prometheus);
    }

    /// As `exposition_formats.md` of Prometheus has both.
    #[test]
    fn the_lines_about_a_metric_differ_and_its_samples_do_not() {
        let open = "\
# HELP a_seconds Time of \\\\ things.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{x=\"# y\"} 1.5
# HELP b Things.
# TYPE b gauge
b 2
# HELP c_total A gauge of another's name.
# TYPE c_total gauge
c_total 3
# HELP d Sizes.
# TYPE d histogram
d_sum 1.0
d_count 1
d_bucket{le=\"+Inf\"} 1
# EOF
";
        let plain = "\
# HELP a_seconds_total Time of \\\\ things.
# TYPE a_seconds_total counter
a_seconds_total{x=\"# y\"} 1.5
# HELP b Things.
# TYPE b gauge
b 2
# HELP c_total A gauge of another's name.
# TYPE c_total gauge
c_total 3
# HELP d Sizes.
# TYPE d histogram
d_sum 1.0
d_count 1
d_bucket{le=\"+Inf\"} 1
";
        assert_eq!(Format::Prometheus.of_open_metrics(open.to_owned()), plain);
        assert_eq!(Format::OpenMetrics.of_open_metrics(open.to_owned()), open);
    }
}
