//! An HTTP/1 request head on its way in: how large it has become, before anybody has parsed it.
//!
//! The parser reads up to 1 MiB of a head, and answers one with too many fields with a bare 400. A head that is complete and within
//! what it reads is judged by `intake`, which tells of it; what could not become such a head ends here.

/// The most header fields that the parser reads.
const MOST_FIELDS: usize = 256;

/// A head of which some bytes are here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ArrivingHead {
    bytes: usize,
    /// Lines that came to their end, the request line among them.
    lines: usize,
    /// Bytes of the line that did not, and the last of them.
    begun: usize,
    last: u8,
    is_complete: bool,
}

impl ArrivingHead {
    /// Takes the next bytes. `false`: it is, or would have to become, larger than `most_bytes`, or has too many fields.
    pub(super) fn take(&mut self, received: &[u8], most_bytes: usize) -> bool {
        self.bytes += received.len();
        if self.is_complete {
            // The parser sees it otherwise, and goes on reading.
            return self.bytes <= most_bytes;
        }
        let mut line = 0;
        for end in memchr::memchr_iter(b'\n', received) {
            let before = end.checked_sub(1).and_then(|before| received.get(before)).unwrap_or(&self.last);
            let length = self.begun + (end - line);
            let is_empty = length == 0 || length == 1 && *before == b'\r';
            (self.begun, line) = (0, end + 1);
            // Empty lines before the request line are nothing (RFC 9112 §2.2).
            if is_empty && self.lines > 0 {
                self.is_complete = true;
                break;
            }
            self.lines += usize::from(!is_empty);
        }
        self.begun += received.len().saturating_sub(line);
        self.last = received.last().copied().unwrap_or(self.last);
        self.lines <= 1 + MOST_FIELDS && (self.is_complete || self.bytes <= most_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 4096;

    /// Whether a head is let through that comes in pieces of so many bytes.
    fn passes(head: &str, pieces: usize) -> bool {
        let mut arriving = ArrivingHead::default();
        head.as_bytes().chunks(pieces).all(|piece| arriving.take(piece, MOST))
    }

    fn with_fields(count: usize, end: &str) -> String {
        format!("GET / HTTP/1.1{end}{}{end}", format!("a:{end}").repeat(count))
    }

    #[test]
    fn fields_are_counted_up_to_the_end_of_the_head() {
        for end in ["\r\n", "\n"] {
            for pieces in [1, 2, 3, 7, 1500, 10_000] {
                assert!(passes(&with_fields(256, end), pieces), "{end:?} {pieces}");
                assert!(!passes(&with_fields(257, end), pieces), "{end:?} {pieces}");
            }
            // What follows the head in the same piece is a body.
            assert!(passes(&format!("{}{}", with_fields(2, end), "\n".repeat(500)), 10_000));
            assert!(passes(&format!("{end}{end}{}", with_fields(256, end)), 10_000));
        }
    }

    #[test]
    fn a_head_that_is_not_complete_within_its_limit_is_too_large() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MOST));
        for pieces in [1, 100] {
            assert!(!passes(&long, pieces), "{pieces}");
        }
        // Its end came together with what was too much: the parser has it whole, and whoever looks at it next tells why it is refused.
        for pieces in [MOST, 2 * MOST] {
            assert!(passes(&long, pieces), "{pieces}");
        }
        let endless = format!("GET /{}", "a".repeat(2 * MOST));
        for pieces in [1, 100, MOST, 2 * MOST] {
            assert!(!passes(&endless, pieces), "{pieces}");
        }
        assert!(passes(&format!("GET / HTTP/1.1\r\n\r\n{}", "a".repeat(2 * MOST)), 4 * MOST));
    }
}
