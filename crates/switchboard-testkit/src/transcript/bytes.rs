//! Bytes as a transcript writes them: `"a\r" "b" * 3`.

/// Reads texts in quotes, each of them repeated if a number follows behind an asterisk.
pub(super) fn parse(written: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = written.trim();
    while !rest.is_empty() {
        let (text, behind) = text(rest)?;
        rest = behind.trim_start();
        let mut times = 1;
        if let Some(behind) = rest.strip_prefix('*') {
            let behind = behind.trim_start();
            let digits = behind.len() - behind.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            times = behind[..digits].parse().map_err(|_| format!("a number is missing before {behind:?}"))?;
            rest = behind[digits..].trim_start();
        }
        bytes.extend(text.repeat(times));
    }
    Ok(bytes)
}

fn text(written: &str) -> Result<(Vec<u8>, &str), String> {
    let inside = written.strip_prefix('"').ok_or_else(|| format!("a quote is missing before {written:?}"))?;
    let mut bytes = Vec::new();
    let mut chars = inside.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((bytes, &inside[at + 1..])),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('r') => bytes.push(b'\r'),
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some(same @ ('\\' | '"')) => bytes.push(same as u8),
                Some('x') => {
                    let byte = inside.get(at + 2..at + 4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    bytes.push(byte.ok_or("\\x needs two hexadecimal digits")?);
                    chars.nth(1);
                }
                other => return Err(format!("there is no escape {other:?}")),
            },
            char => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a text has no end".to_owned())
}
