//! The files of a store: whatever is cut, changed or exchanged, the store opens without loss, or says
//! what is damaged.
//!
//! An input begins with a byte that chooses one of two stores, and continues with damages of 7 bytes:
//! what to do, the file, where (4 bytes), and a value.

use tokio::runtime::Builder;

use super::engine::fuzz;
use crate::embedded::Sample;

/// The most damages of one input.
const DAMAGES_MAX: usize = 8;
const DAMAGE_BYTES: usize = 7;

#[test]
fn stores() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let samples = [false, true].map(|is_checkpointed| {
        let made = Sample::new(7, is_checkpointed);
        runtime.block_on(made)
    });
    fuzz("stores", "", |input| {
        let (first, damages) = input.split_first().unwrap_or((&0, &[]));
        let sample = &samples[usize::from(first % 2)];
        let mut files = sample.files.clone();
        for damage in damages.chunks_exact(DAMAGE_BYTES).take(DAMAGES_MAX) {
            apply(damage, &mut files);
        }
        runtime.block_on(sample.check(&files))
    });
}

fn apply(damage: &[u8], files: &mut [Vec<u8>; 3]) {
    let [what, file, a, b, c, d, value] = *damage else { return };
    let file = &mut files[usize::from(file % 3)];
    if file.is_empty() {
        return;
    }
    let at = u32::from_be_bytes([a, b, c, d]) as usize % file.len();
    let end = file.len().min(at + usize::from(value));
    match what % 5 {
        0 => file[at] ^= 1 << (value % 8),
        1 => file[at] = value,
        2 => file.truncate(at),
        3 => file[at..end].fill(0),
        // A piece of another place of the file.
        _ => file.copy_within(0..end - at, at),
    }
}
