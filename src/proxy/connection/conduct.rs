//! How a client behaves on an HTTP/2 connection: frames that cost work and bring none are counted, and there is a bound on them.
//!
//! The HTTP/2 library bounds memory: open streams, streams that were reset before they were looked at, header lists once unpacked,
//! continuations, small or empty data frames, its own resets. It does not bound a request that is made and taken back, which costs a
//! connection to the upstream each time, nor pings, settings and the like, each of which is answered. The frames are only counted
//! here, by their nine-byte headers (RFC 9113 §4.1); whether they are sound is for the library to say.

use std::time::Instant;

/// Requests that may be taken back at once, in a second, and for how many that were made one more may.
const RESETS: Allowance = Allowance { burst: 100, a_second: 10 };
const REQUESTS_FOR_A_RESET: u32 = 10;

/// Frames that carry nothing: pings, settings, priorities, windows. Each one that carries something pays for some of them.
const IDLE_FRAMES: Allowance = Allowance { burst: 1000, a_second: 100 };
const IDLE_FRAMES_FOR_A_FRAME: u32 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const HEADER_BYTES: usize = 9;

/// What goes on over one connection.
#[derive(Debug)]
pub(super) struct Conduct {
    incoming: Frames,
    outgoing: Frames,
    resets: Budget,
    idle_frames: Budget,
    requests: u32,
    last_stream: u32,
}

impl Conduct {
    pub(super) fn new() -> Self {
        Self {
            incoming: Frames::default(),
            outgoing: Frames::default(),
            resets: Budget::new(RESETS),
            idle_frames: Budget::new(IDLE_FRAMES),
            requests: 0,
            last_stream: 0,
        }
    }

    /// Follows what the client has sent, the preface left out. `false`: it went too far.
    pub(super) fn received(&mut self, bytes: &[u8]) -> bool {
        let Self { incoming, resets, idle_frames, requests, last_stream, .. } = self;
        let mut is_within = true;
        incoming.follow(bytes, |kind, stream| match kind {
            HEADERS => {
                *last_stream = (*last_stream).max(stream);
                *requests += 1;
                if *requests >= REQUESTS_FOR_A_RESET {
                    *requests = 0;
                    resets.earn(1);
                }
                idle_frames.earn(IDLE_FRAMES_FOR_A_FRAME);
            }
            DATA => idle_frames.earn(IDLE_FRAMES_FOR_A_FRAME),
            RST_STREAM => is_within &= resets.spend(),
            CONTINUATION => {}
            _ => is_within &= idle_frames.spend(),
        });
        is_within
    }

    /// The last stream that the client has begun; 0 = none.
    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Follows what was sent to it.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Self { outgoing, idle_frames, .. } = self;
        outgoing.follow(bytes, |kind, _| {
            if matches!(kind, DATA | HEADERS) {
                idle_frames.earn(IDLE_FRAMES_FOR_A_FRAME);
            }
        });
    }

    /// The frame that ends the connection, with this error code; `None` in the middle of another.
    pub(super) fn goaway(&self, code: u8) -> Option<[u8; 17]> {
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        self.outgoing.is_between().then_some([0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code])
    }
}

/// Frames as they pass, in pieces of any length.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that are here.
    known: usize,
    /// Bytes of the payload that are to come.
    payload: usize,
}

impl Frames {
    fn is_between(&self) -> bool {
        self.known == 0 && self.payload == 0
    }

    /// Calls `each` with the kind and the stream of every frame whose header is complete.
    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u32)) {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            for slot in self.header.iter_mut().skip(self.known) {
                let Some((byte, rest)) = bytes.split_first() else { return };
                (*slot, bytes) = (*byte, rest);
                self.known += 1;
            }
            self.known = 0;
            let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.header;
            self.payload = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
            each(kind, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
        }
    }
}

/// How much of something may happen.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: u32,
    a_second: u32,
}

/// How much of it may happen still.
#[derive(Debug)]
struct Budget {
    of: Allowance,
    left: u32,
    filled: Instant,
}

impl Budget {
    fn new(of: Allowance) -> Self {
        Self { of, left: of.burst, filled: Instant::now() }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.of.burst);
    }

    /// `false`: there is nothing left.
    fn spend(&mut self) -> bool {
        if self.left == 0 {
            // The clock is looked at only then.
            let millis = u64::try_from(self.filled.elapsed().as_millis()).unwrap_or(u64::MAX);
            let earned = millis.saturating_mul(u64::from(self.of.a_second)) / 1000;
            if earned > 0 {
                self.filled = Instant::now();
                self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
            }
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, stream: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, stream];
        frame.resize(HEADER_BYTES + payload, 0xff);
        frame
    }

    /// A client whose clock stands: nothing is earned by waiting.
    fn conduct() -> Conduct {
        let mut conduct = Conduct::new();
        conduct.resets.of.a_second = 0;
        conduct.idle_frames.of.a_second = 0;
        conduct
    }

    #[test]
    fn frames_are_told_apart_however_they_come() {
        let bytes = [frame(HEADERS, 5, 300), frame(DATA, 5, 0), frame(PING, 0, 8), frame(RST_STREAM, 7, 4)].concat();
        for pieces in [1, 2, 8, 9, 10, 17, 1000] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(pieces) {
                frames.follow(piece, |kind, stream| seen.push((kind, stream)));
            }
            assert_eq!(seen, [(HEADERS, 5), (DATA, 5), (PING, 0), (RST_STREAM, 7)], "{pieces}");
            assert!(frames.is_between());
        }
    }

    #[test]
    fn requests_taken_back_are_bounded() {
        let mut conduct = conduct();
        let taken_back = [frame(HEADERS, 1, 10), frame(RST_STREAM, 1, 4)].concat();
        let allowed = (0..1000).take_while(|_| conduct.received(&taken_back)).count();
        assert_eq!(allowed, 111, "a hundred, and one more for each ten");
        let mut patient = Conduct::new();
        patient.resets.left = 0;
        patient.resets.filled -= std::time::Duration::from_secs(2);
        let earned = (0..1000).take_while(|_| patient.received(&frame(RST_STREAM, 1, 4))).count();
        assert!((20..25).contains(&earned), "{earned}");
    }

    #[test]
    fn frames_that_carry_nothing_are_bounded_by_those_that_do() {
        for kind in [2, 4, 6, 8, 99] {
            let mut conduct = conduct();
            let allowed = (0..10_000).take_while(|_| conduct.received(&frame(kind, 0, 8))).count();
            assert_eq!(allowed, 1000, "{kind}");
        }
        let mut conduct = conduct();
        for _ in 0..10_000 {
            conduct.sent(&frame(DATA, 1, 100));
            assert!(conduct.received(&frame(8, 1, 4)) && conduct.received(&frame(PING, 0, 8)));
        }
    }

    #[test]
    fn nothing_is_said_in_the_middle_of_a_frame() {
        let mut conduct = conduct();
        conduct.received(&frame(HEADERS, 3, 0));
        let data = frame(DATA, 1, 100);
        conduct.sent(&data[..50]);
        assert_eq!(conduct.goaway(11), None);
        conduct.sent(&data[50..]);
        assert_eq!(conduct.goaway(11), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11]));
    }
}
