//! A reader of HTTP/1.1 requests that takes nothing but what RFC 9112 has us write, and so tells when we wrote something else.

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Request line and header fields, byte for byte, blank line included.
    pub head: Vec<u8>,
    /// The body, transfer coding included.
    pub body: Vec<u8>,
}

/// The beginning of some bytes.
#[derive(Debug)]
pub enum Read {
    /// A request, and how many bytes it has.
    Whole(Received, usize),
    /// A head, and less than its body.
    Begun(Received),
    /// Less than a head.
    HalfHead,
}

/// Why bytes are no request.
pub type Malformed = String;

/// Reads the request that `bytes` begin with.
pub fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    let Some((mut received, length)) = head(bytes)? else { return Ok(Read::HalfHead) };
    let rest = &bytes[received.head.len()..];
    match length.filter(|length| *length <= rest.len()) {
        Some(length) => {
            received.body = rest[..length].to_vec();
            let used = received.head.len() + length;
            Ok(Read::Whole(received, used))
        }
        None => {
            received.body = rest.to_vec();
            Ok(Read::Begun(received))
        }
    }
}

/// Whether `bytes` begin with a whole request; without a copy of its body, for whoever asks again and again.
pub fn is_whole(bytes: &[u8]) -> Result<bool, Malformed> {
    let Some((received, length)) = head(bytes)? else { return Ok(false) };
    Ok(length.is_some_and(|length| received.head.len() + length <= bytes.len()))
}

/// The head that `bytes` begin with, and how long the body behind it is, where that is known already.
fn head(bytes: &[u8]) -> Result<Option<(Received, Option<usize>)>, Malformed> {
    let Some(end) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > 1024 * 1024 { Err("a head without an end".to_owned()) } else { Ok(None) };
    };
    let (head, rest) = bytes.split_at(end);
    let received = Received { head: head.to_vec(), body: Vec::new() };
    received.judge_head()?;
    let length = match received.values("transfer-encoding").as_slice() {
        [] => match received.value("content-length") {
            Some(length) => Some(length.parse::<usize>().map_err(|error| format!("{length}: {error}"))?),
            None => Some(0),
        },
        _ => chunked(rest)?,
    };
    Ok(Some((received, length)))
}

/// How long a chunked body is that `bytes` begin with; `None` = longer than they are. Sizes are hexadecimal digits and nothing else: no
/// extensions, no trailers.
fn chunked(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if rest.len() < digits + 2 {
            // Whatever there is, it is the beginning of a line that may still be right.
            let is_right = digits <= 8 && matches!(rest.get(digits), None | Some(b'\r'));
            return if is_right { Ok(None) } else { Err(format!("a chunk begins with {:?}", printed(rest))) };
        }
        if digits == 0 || digits > 8 || rest[digits..digits + 2] != *b"\r\n" {
            return Err(format!("a chunk begins with {:?}", printed(rest)));
        }
        let size = std::str::from_utf8(&rest[..digits]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("no size")?;
        let data = at + digits + 2;
        match bytes.get(data + size..data + size + 2) {
            Some(b"\r\n") if size == 0 => return Ok(Some(data + 2)),
            Some(b"\r\n") => at = data + size + 2,
            Some(other) => return Err(format!("a chunk ends with {other:?}")),
            None => return Ok(None),
        }
    }
}

impl Received {
    /// The request line without its line end.
    pub fn request_line(&self) -> String {
        self.text().split("\r\n").next().unwrap_or_default().to_owned()
    }

    /// The method.
    pub fn method(&self) -> String {
        self.request_line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// The request target.
    pub fn target(&self) -> String {
        self.request_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The values of all fields called `name`, compared as written but for case.
    pub fn values(&self, name: &str) -> Vec<String> {
        let wanted = name.to_ascii_lowercase();
        self.fields().into_iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect()
    }

    /// The only value of `name`; panics when there are several.
    pub fn value(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} arrived more than once: {values:?}");
        values.into_iter().next()
    }

    /// All fields: lower-case name, value.
    pub fn fields(&self) -> Vec<(String, String)> {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        self.text().split("\r\n").skip(1).filter_map(field).collect()
    }

    /// The body, transfer coding removed.
    pub fn content(&self) -> Vec<u8> {
        if self.values("transfer-encoding").is_empty() {
            return self.body.clone();
        }
        let (mut content, mut rest) = (Vec::new(), self.body.as_slice());
        while let Some(line) = find(rest, b"\r\n") {
            let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..line]), 16).unwrap();
            content.extend_from_slice(rest.get(line + 2..line + 2 + size).unwrap_or_default());
            rest = rest.get(line + size + 4..).unwrap_or_default();
        }
        content
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// Whether this is a head that can be read in one way only.
    fn judge_head(&self) -> Result<(), Malformed> {
        let wrong = |why: &str| Err(format!("{why}: {:?}", printed(&self.head)));
        let Some(lines) = self.head.strip_suffix(b"\r\n\r\n") else { return wrong("no end") };
        let mut lines = lines.split(|byte| *byte == b'\n');
        let Some(first) = lines.next() else { return wrong("no request line") };
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        let parts: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
        match parts.as_slice() {
            [method, [b'/', target @ ..], b"HTTP/1.1"]
                if !method.is_empty() && method.iter().copied().all(is_token) && is_target(target) => {}
            _ => return wrong("the request line"),
        }
        let count = self.head.windows(2).filter(|two| two == b"\r\n").count();
        if self.head.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() != count * 2 {
            return wrong("a line end by halves");
        }
        for line in lines {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return wrong("a line without a colon");
            };
            let value = line[colon + 1..].strip_suffix(b"\r").unwrap_or(&line[colon + 1..]);
            if colon == 0 || !line[..colon].iter().copied().all(is_token) {
                return wrong("a field name");
            }
            if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
                return wrong("a field value");
            }
        }
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        let has_one_length = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => true,
            ([length], []) => !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()),
            ([], [coding]) => coding.eq_ignore_ascii_case("chunked"),
            _ => false,
        };
        if !has_one_length {
            return wrong("not one length");
        }
        if self.values("host").len() != 1 {
            return wrong("not one host");
        }
        Ok(())
    }
}

/// A path of letters that may stand in one; a query passes as it came, and some write it as they please (RFC 3986 §3.4).
fn is_target(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    path.iter().all(u8::is_ascii_graphic) && target.iter().all(|byte| byte.is_ascii_graphic() || *byte >= 0x80)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes for people, the first of them.
pub fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
