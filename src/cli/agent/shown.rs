//! What an agent does, as a person or a program sees it: a bar on a terminal, a line of JSON for each thing elsewhere.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::agent::progress::Progress;
use crate::cli::output::print;

/// Between two lines on how far a file is.
const LINE_EVERY: Duration = Duration::from_secs(2);

const BAR: &str = "{prefix} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";

/// What is shown. Dropping it takes the bar away.
#[derive(Debug)]
pub(super) struct Shown {
    bars: Arc<MultiProgress>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Terminal(Option<ProgressBar>),
    Lines { next: Instant },
}

impl Shown {
    /// Begins to show.
    pub(super) fn begin(bars: &Arc<MultiProgress>) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let kind = if terminal { Kind::Terminal(None) } else { Kind::Lines { next: Instant::now() } };
        Self { bars: bars.clone(), kind }
    }

    /// Shows what happened.
    pub(super) fn show(&mut self, progress: &Progress) {
        let line = serde_json::to_string(progress).expect("what happens has names for keys");
        let value = serde_json::from_str(&line).expect("this was just written");
        self.show_line(&value, &line);
    }

    /// The same of what another process says.
    pub(super) fn show_value(&mut self, said: &Value) {
        self.show_line(said, &said.to_string());
    }

    fn show_line(&mut self, said: &Value, line: &str) {
        match &mut self.kind {
            Kind::Lines { next } => {
                let now = Instant::now();
                if said["event"] == "bytes" && said["done"] != said["size"] && now < *next {
                    return;
                }
                *next = now + LINE_EVERY;
                print(line);
            }
            Kind::Terminal(bar) => show_bar(&self.bars, bar, said),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Kind::Terminal(Some(bar)) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

fn show_bar(bars: &MultiProgress, bar: &mut Option<ProgressBar>, said: &Value) {
    let number = |key: &str| said[key].as_u64().unwrap_or_default();
    match said["event"].as_str() {
        Some("file") => {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let new = bars.add(ProgressBar::new(number("size")).with_style(style));
            new.set_position(number("there"));
            new.set_prefix(format!("{} {}", text(&said["component"]), text(&said["version"])));
            new.set_message(text(&said["path"]));
            if let Some(before) = bar.replace(new) {
                before.finish_and_clear();
            }
        }
        Some("bytes") => {
            if let Some(bar) = bar {
                bar.set_position(number("done"));
            }
        }
        _ => {
            if let Some(line) = line(said) {
                bars.suspend(|| print(&line));
            }
        }
    }
}

/// What happened, in words; nothing where the bar says it.
fn line(said: &Value) -> Option<String> {
    let of = |key: &str| text(&said[key]);
    Some(match said["event"].as_str()? {
        "wanted" => format!("{} files to take, {} bytes", of("files"), of("bytes")),
        "source_failed" => format!("{}: {}", of("url"), of("reason")),
        "not_merged" => format!("{}: the increment was not applied: {}", of("component"), of("reason")),
        "installed" => format!("set {} is current", of("number")),
        "command" if said["failed"].is_string() => format!("{}: {}", of("what"), of("failed")),
        "settings_file" if said["version"].is_null() => format!("settings file {} is gone", of("name")),
        "settings_file" => format!("settings file {} version {}", of("name"), of("version")),
        "denied" => format!("not now: {}", of("reason")),
        "ended" if said["detail"].is_null() => of("result"),
        "ended" => format!("{}: {}", of("result"), of("detail")),
        _ => return None,
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_to_a_person_has_a_line_and_the_rest_has_none() {
        let line = |text: &str| line(&serde_json::from_str(text).unwrap());
        assert_eq!(line(r#"{"event":"wanted","files":2,"bytes":7}"#).unwrap(), "2 files to take, 7 bytes");
        assert_eq!(line(r#"{"event":"command","what":"P.4"}"#), None);
        assert_eq!(line(r#"{"event":"command","what":"P.4","failed":"it ended"}"#).unwrap(), "P.4: it ended");
        assert_eq!(line(r#"{"event":"ended","result":"up_to_date"}"#).unwrap(), "up_to_date");
        assert_eq!(line(r#"{"event":"tomorrow"}"#), None);
    }
}
