//! One log line, written field by field into one buffer. Whatever a client sent is cut and escaped here and nowhere else.

use std::fmt::{self, Write};

/// The most bytes of one value that a line carries; a longer one ends in `…`.
const VALUE_BYTES: usize = 256;

/// How lines look (`--log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `key=value` pairs, for people.
    Text,
    /// One JSON object per line.
    #[default]
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("log format is `{}`, expected `text` or `json`", other.escape_debug())),
        }
    }
}

/// A line under construction.
#[derive(Debug)]
pub(super) struct Line {
    format: Format,
    text: String,
}

impl Line {
    pub(super) fn new(format: Format) -> Self {
        let mut text = String::with_capacity(512);
        if format == Format::Json {
            text.push('{');
        }
        Self { format, text }
    }

    /// A value from a closed set of ours, or a number: written as it is.
    pub(super) fn number(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// A word of ours that needs no escaping.
    pub(super) fn word(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let quote = if self.format == Format::Json { "\"" } else { "" };
        let _ = write!(self.text, "{quote}{value}{quote}");
    }

    /// A value that somebody else chose: cut to [`VALUE_BYTES`] and escaped.
    pub(super) fn value(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        self.text.push('"');
        let _ = write!(Escape { text: &mut self.text, left: Some(VALUE_BYTES) }, "{value}");
        self.text.push('"');
    }

    /// The line, with its line feed.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
        self.text.into_bytes()
    }

    fn name(&mut self, name: &str) {
        let first = self.text.len() <= 1;
        match self.format {
            Format::Json => {
                self.text.push_str(if first { "\"" } else { ",\"" });
                self.text.push_str(name);
                self.text.push_str("\":");
            }
            Format::Text => {
                if !first {
                    self.text.push(' ');
                }
                self.text.push_str(name);
                self.text.push('=');
            }
        }
    }
}

/// Escapes as JSON does, and further what a terminal would act upon or show in another order.
struct Escape<'a> {
    text: &'a mut String,
    /// Bytes that may still be written; `None` once something was cut off.
    left: Option<usize>,
}

impl Write for Escape<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for character in part.chars() {
            let Some(left) = self.left else { return Ok(()) };
            self.left = left.checked_sub(character.len_utf8());
            if self.left.is_none() {
                self.text.push('…');
                return Ok(());
            }
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                _ if character.is_control() || reorders(character) => {
                    write!(self.text, "\\u{:04x}", u32::from(character))?
                }
                _ => self.text.push(character),
            }
        }
        Ok(())
    }
}

/// Invisible characters, line and paragraph separators, and those that change the direction of text.
fn reorders(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &str) -> String {
        let mut line = Line::new(Format::Json);
        line.value("path", value);
        let line = String::from_utf8(line.finish()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.ends_with("\"}\n") && !line.trim_end().contains(char::is_control), "{line:?}");
        read["path"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_was_written_is_read_back() {
        for value in ["", "/a/ü", "a\"b\\c", "a\r\nb", "\u{1b}[2J\u{9b}31m\u{7f}\0", "\u{202e}gpj.exe", "\u{2028}"] {
            assert_eq!(json(value), value);
        }
    }

    #[test]
    fn a_terminal_never_sees_a_control_or_a_change_of_direction() {
        let mut line = Line::new(Format::Text);
        line.value("path", "\u{1b}[2J\r\n\u{9b}31m\u{202e}\" outcome=allow");
        let line = String::from_utf8(line.finish()).unwrap();
        assert_eq!(line, "path=\"\\u001b[2J\\u000d\\u000a\\u009b31m\\u202e\\\" outcome=allow\"\n");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let cut = json(&"ü".repeat(1_000_000));
        assert_eq!(cut, format!("{}…", "ü".repeat(128)));
        assert_eq!(json(&format!("a{}", "ü".repeat(128))), format!("a{}…", "ü".repeat(127)));
        assert_eq!(json(&"x".repeat(VALUE_BYTES)), "x".repeat(VALUE_BYTES));
    }
}
