//! WebSocket frames, as far as the benchmark needs them.

/// A WebSocket frame (RFC 6455, section 5.2) with a whole message; its mask is zero, so that the
/// payload needs no unmasking.
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits off the first frame; `None` if it is incomplete.
    pub(super) fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [head, length, ..] = *bytes else { return None };
        let mask = if length & 0x80 == 0 { 0 } else { 4 };
        let (length, begin) = match length & 0x7f {
            126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => {
                (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10)
            }
            length => (usize::from(length), 2),
        };
        let begin = begin + mask;
        let payload = bytes.get(begin..begin + length)?;
        Some((Self { opcode: head & 0xf, payload }, &bytes[begin + length..]))
    }
}

/// Makes a client's frame.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    framed(opcode, payload, 0x80)
}

/// Makes a server's frame.
pub(super) fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    framed(opcode, payload, 0)
}

fn framed(opcode: u8, payload: &[u8], mask: u8) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(mask | length),
        (_, Ok(length)) => {
            frame.push(mask | 126);
            frame.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(mask | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if mask != 0 {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}
