use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What a write-ahead log begins with; the last bit says in which order checksums read bytes.
const MAGIC: u32 = 0x377f_0682;
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The largest page that a database may have.
const PAGE_BYTES_MAX: usize = 65_536;

/// Counts the pages of a write-ahead log that come after one that is damaged, and so can no longer be
/// read: none where it ends as logs end when a process dies, which may be within a page, before those
/// of an earlier round.
///
/// The format is SQLite's, "The WAL File Format"; its own recovery stops at the damage and does not
/// say so.
pub(super) fn lost_pages(log: &Path) -> io::Result<u64> {
    let mut file = match File::open(log) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut file, &mut header)? {
        return Ok(0);
    }
    let magic = word(&header, 0);
    let page_bytes = word(&header, 8) as usize;
    if magic & !1 != MAGIC || page_bytes == 0 || page_bytes > PAGE_BYTES_MAX {
        return Ok(0);
    }
    let salts = header[16..24].to_vec();
    let mut sum = Sum { is_big_endian: magic & 1 == 1, halves: (0, 0) };
    sum.add(&header[..24]);
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let (mut is_whole, mut lost) = (true, 0);
    while fill(&mut file, &mut frame)? {
        // What is left of an earlier round of the log has other salts.
        let is_of_this_round = frame[8..16] == salts[..];
        if is_whole {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            is_whole = is_of_this_round && sum.halves == (word(&frame, 16), word(&frame, 20));
        } else {
            lost += u64::from(is_of_this_round);
        }
    }
    Ok(lost)
}

/// Reads a whole piece; `false` at the end, where what is left is none.
fn fill(file: &mut impl Read, piece: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(piece) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The running checksum of a log.
struct Sum {
    is_big_endian: bool,
    halves: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut one, mut other) = self.halves;
        for pair in bytes.chunks_exact(8) {
            let [first, second] = [0, 4].map(|at| {
                let word = word(pair, at);
                if self.is_big_endian { word } else { word.swap_bytes() }
            });
            one = one.wrapping_add(first).wrapping_add(other);
            other = other.wrapping_add(second).wrapping_add(one);
        }
        self.halves = (one, other);
    }
}
