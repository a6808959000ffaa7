//! Where one WebSocket frame ends and the next begins (RFC 6455 §5.2), seen in the bytes on their way to the client: between two frames
//! we may put in a close frame of our own.

/// Close, 1008: "terminating the connection because it has received a message that violates its policy" (RFC 6455 §7.4.1).
pub(super) const POLICY_VIOLATION: [u8; 4] = [0x88, 0x02, 0x03, 0xf0];

/// The longest head of an unmasked frame; servers do not mask.
const LONGEST_HEAD: usize = 10;

/// Follows the bytes of one connection from the head of the answer that switched protocols.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    /// Whether the server has said goodbye itself.
    closing: bool,
}

#[derive(Debug)]
enum At {
    /// In the head of the answer; so many bytes of its end were just seen.
    AnswerHead(usize),
    /// In the head of a frame: so many bytes of it.
    Head([u8; LONGEST_HEAD], usize),
    /// In a payload: so many bytes are to come.
    Payload(u64),
    /// Nowhere that can be known: a server that masks its frames, or sends what is no frame.
    Lost,
}

impl Frames {
    /// Before the first byte of the answer.
    pub(super) fn new() -> Self {
        Self { at: At::AnswerHead(0), closing: false }
    }

    /// Whether a frame may be put in here.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, At::Head(_, 0)) && !self.closing
    }

    /// These bytes passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match &mut self.at {
                At::AnswerHead(seen) => {
                    *seen = match (*seen, byte) {
                        (0 | 2, b'\r') | (1 | 3, b'\n') => *seen + 1,
                        (_, b'\r') => 1,
                        _ => 0,
                    };
                    if *seen == 4 {
                        self.at = At::Head([0; LONGEST_HEAD], 0);
                    }
                    rest
                }
                At::Head(head, length) => {
                    if let Some(place) = head.get_mut(*length) {
                        *place = byte;
                    }
                    *length += 1;
                    match payload(head, *length) {
                        Payload::Unknown => {}
                        Payload::Masked => self.at = At::Lost,
                        Payload::Length(bytes) => {
                            self.closing |= head[0] & 0x0f == 0x08;
                            self.at = if bytes == 0 { At::Head([0; LONGEST_HEAD], 0) } else { At::Payload(bytes) };
                        }
                    }
                    rest
                }
                At::Payload(left) => {
                    let passed = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                    *left -= passed;
                    if *left == 0 {
                        self.at = At::Head([0; LONGEST_HEAD], 0);
                    }
                    bytes.get(usize::try_from(passed).unwrap_or(usize::MAX)..).unwrap_or_default()
                }
                At::Lost => return,
            };
        }
    }
}

/// What the first bytes of a head say about the payload.
enum Payload {
    Unknown,
    Masked,
    Length(u64),
}

fn payload(head: &[u8; LONGEST_HEAD], length: usize) -> Payload {
    if length < 2 {
        return Payload::Unknown;
    }
    let [_, second, short @ .., _, _, _, _, _, _] = head;
    let [.., a, b, c, d, e, f, g, h] = head;
    match second {
        128.. => Payload::Masked,
        126 if length < 4 => Payload::Unknown,
        126 => Payload::Length(u64::from(u16::from_be_bytes(*short))),
        127 if length < LONGEST_HEAD => Payload::Unknown,
        127 => Payload::Length(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        bytes => Payload::Length(u64::from(*bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    /// Frames of all three forms of length, and the places where each begins.
    fn conversation() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = ANSWER.to_vec();
        let mut between = vec![bytes.len()];
        for length in [0_usize, 1, 125, 126, 300, 65_535, 65_536] {
            bytes.push(0x82);
            match length {
                0..=125 => bytes.push(u8::try_from(length).unwrap()),
                126..=65_535 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
                }
            }
            // Payloads that look like the ends of heads.
            bytes.extend(b"\r\n\r\n".iter().cycle().take(length));
            between.push(bytes.len());
        }
        (bytes, between)
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let (bytes, between) = conversation();
        for step in [1, 2, 3, 7, 64, 1000, 70_000] {
            let mut frames = Frames::new();
            let mut passed = 0;
            for chunk in bytes.chunks(step) {
                frames.pass(chunk);
                passed += chunk.len();
                assert_eq!(frames.is_between(), between.contains(&passed), "after {passed} in steps of {step}");
            }
        }
    }

    #[test]
    fn nothing_is_put_in_after_a_goodbye_or_where_frames_cannot_be_told() {
        let mut frames = Frames::new();
        frames.pass(ANSWER);
        frames.pass(&POLICY_VIOLATION);
        assert!(!frames.is_between());
        let mut frames = Frames::new();
        frames.pass(ANSWER);
        frames.pass(&[0x82, 0x81, 1, 2, 3, 4, 5]);
        assert!(!frames.is_between());
    }
}
