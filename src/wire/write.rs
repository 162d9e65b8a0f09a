//! Writing one JSON object the way Go >= 1.22 `json.Marshal` does: compact, `< > &` and U+2028/9 escaped, bytes as base64.
//!
//! Signatures are made over these bytes, so not one of them may differ.

/// Builds one compact JSON object, field by field. Keys are fixed words and written as they are.
pub(super) struct ObjectWriter {
    out: Vec<u8>,
}

impl ObjectWriter {
    /// An empty object with room for about `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self::behind(Vec::with_capacity(capacity + 2))
    }

    /// An object behind what is there.
    pub(super) fn behind(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    /// An object that is the value of the one key of a line; end it with [`ObjectWriter::finish_tagged`].
    pub(super) fn tagged(tag: &str, capacity: usize) -> Self {
        let mut line = Self::new(capacity + tag.len() + 8);
        line.key(tag);
        line.out.push(b'{');
        line
    }

    fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string.
    pub(super) fn string(mut self, key: &str, text: &str) -> Self {
        self.key(key);
        push_string(&mut self.out, text);
        self
    }

    /// A string, left out when there is none.
    pub(super) fn optional_string(self, key: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.string(key, text),
            None => self,
        }
    }

    /// A whole number.
    pub(super) fn number(self, key: &str, number: u64) -> Self {
        self.raw(key, &number.to_string())
    }

    /// A whole number, left out when there is none.
    pub(super) fn optional_number(self, key: &str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(key, number),
            None => self,
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(self, key: &str, flag: bool) -> Self {
        self.raw(key, if flag { "true" } else { "false" })
    }

    /// A value that is JSON text already.
    pub(super) fn raw(mut self, key: &str, json: &str) -> Self {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// A value whose bytes are JSON already.
    pub(super) fn json(mut self, key: &str, json: &[u8]) -> Self {
        self.key(key);
        self.out.extend_from_slice(json);
        self
    }

    /// Bytes as base64; no bytes as `null`, as Go writes a nil slice.
    pub(super) fn bytes(mut self, key: &str, bytes: &[u8]) -> Self {
        self.key(key);
        if bytes.is_empty() {
            self.out.extend_from_slice(b"null");
            return self;
        }
        self.out.push(b'"');
        base64_simd::STANDARD.encode_append(bytes, &mut self.out);
        self.out.push(b'"');
        self
    }

    /// A list of strings, `[]` when empty.
    pub(super) fn strings(mut self, key: &str, list: &[String]) -> Self {
        self.key(key);
        self.out.push(b'[');
        for (index, text) in list.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            push_string(&mut self.out, text);
        }
        self.out.push(b']');
        self
    }

    /// The finished object.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    /// The finished inner object, its line's end and a newline.
    pub(super) fn finish_tagged(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.finish_line()
    }

    /// The finished object and the newline Go's encoder puts behind each value.
    pub(super) fn finish_line(self) -> Vec<u8> {
        let mut line = self.finish();
        line.push(b'\n');
        line
    }
}

/// The string with its quotes, escaped as Go does.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.find(needs_escape) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = tail.chars();
        if let Some(special) = chars.next() {
            push_escape(out, special);
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn needs_escape(c: char) -> bool {
    c < ' ' || matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

fn push_escape(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\u{8}' => b"\\b",
        '\u{c}' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        other => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(other)).as_bytes());
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(written("a<b>&c"), r#""a\u003cb\u003e\u0026c""#);
        assert_eq!(written("\u{2028}\u{2029}"), r#""\u2028\u2029""#);
        assert_eq!(written("\u{8}\u{c}\n\r\t\"\\"), r#""\b\f\n\r\t\"\\""#);
        assert_eq!(written("\u{0}\u{1f}\u{7f}é🦀"), "\"\\u0000\\u001f\u{7f}é🦀\"");
        assert_eq!(written(""), r#""""#);
    }

    #[test]
    fn every_string_reads_back() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        assert_eq!(serde_json::from_str::<String>(&written(&all)).unwrap(), all);
    }
}
