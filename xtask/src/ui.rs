//! What the person at the terminal sees: steps with their time, notes, colours only where they belong.

use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// Prints the title of a group of steps.
pub fn heading(text: &str) {
    println!("{}", paint("1", text));
}

/// Prints a finished step: what was done, the detail worth knowing, how long it took.
pub fn done(what: &str, detail: &str, took: Duration) {
    println!("  {}  {what:<34} {detail}  ({})", paint("32", "ok"), seconds(took));
}

/// Prints a step that had nothing to do.
pub fn already(what: &str, detail: &str) {
    println!("  {}  {what:<34} {detail}", paint("32", "ok"));
}

/// Prints a step that failed; the error itself travels as a value.
pub fn failed(what: &str, took: Duration) {
    println!("  {}  {what}  ({})", paint("31", "failed"), seconds(took));
}

/// Prints something to know that is no failure.
pub fn note(text: &str) {
    println!("  {}  {text}", paint("33", "note"));
}

/// Prints a step that begins and may take long, so that nobody wonders.
pub fn begins(what: &str) {
    println!("  {}  {what}", paint("2", ".."));
    // A lost line of progress must not stop the work.
    let _ = std::io::stdout().flush();
}

/// Runs `work` as a step called `what`; `work` returns the detail to print.
pub fn step<E>(what: &str, work: impl FnOnce() -> Result<String, E>) -> Result<(), E> {
    let start = Instant::now();
    match work() {
        Ok(detail) => {
            done(what, &detail, start.elapsed());
            Ok(())
        }
        Err(error) => {
            failed(what, start.elapsed());
            Err(error)
        }
    }
}

/// `1.2 s`, `3 min 20 s`.
pub fn seconds(duration: Duration) -> String {
    let all = duration.as_secs();
    if all >= 60 {
        format!("{} min {:02} s", all / 60, all % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// Wraps `text` in the SGR `code`, on terminals that want colour (<https://no-color.org>).
pub fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (duration, text) in [
            (Duration::from_millis(40), "0.0 s"),
            (Duration::from_millis(1250), "1.2 s"),
            (Duration::from_secs(59), "59.0 s"),
            (Duration::from_secs(200), "3 min 20 s"),
        ] {
            assert_eq!(seconds(duration), text);
        }
    }
}
