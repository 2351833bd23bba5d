//! The hash tags of the partitions, chosen so that every number of primaries gets the same share.

use std::collections::HashMap;

/// The number of slots of a Redis Cluster.
const SLOTS: u32 = 16_384;

/// The slot of a hash tag: CRC-16 (XMODEM) modulo the number of slots.
pub(super) fn slot(tag: &str) -> u32 {
    let mut crc: u16 = 0;
    for byte in tag.bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    u32::from(crc) % SLOTS
}

/// The hash tag of each partition: the shortest hexadecimal text whose slot is in the middle of the
/// partition's share of all slots. Tags such as `0` to `63` would be spread unevenly over primaries.
pub(super) fn hash_tags(partitions: u32) -> Vec<String> {
    let middle = |part: u32| part * SLOTS / partitions + SLOTS / 2 / partitions;
    let mut parts: HashMap<u32, u32> = (0..partitions).map(|part| (middle(part), part)).collect();
    let mut tags = vec![String::new(); partitions as usize];
    for number in 0_u32.. {
        if parts.is_empty() {
            break;
        }
        let tag = format!("{number:x}");
        if let Some(part) = parts.remove(&slot(&tag)) {
            tags[part as usize] = tag;
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, hash_tags, slot};

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` of redis-server 7.0 answers.
        assert_eq!([slot("foo"), slot("bar"), slot("123456789")], [12182, 5061, 12739]);
    }

    #[test]
    fn each_number_of_primaries_gets_equal_shares() {
        let tags = hash_tags(64);
        assert_eq!(tags[..4], ["19d48", "1e89", "232e", "2113"]);
        for primaries in [1, 2, 4, 8, 16, 32, 64] {
            let mut shares = vec![0; primaries as usize];
            for tag in &tags {
                shares[(slot(tag) * primaries / SLOTS) as usize] += 1;
            }
            assert!(shares.iter().all(|share| *share == 64 / primaries), "{primaries}: {shares:?}");
        }
    }

    #[test]
    fn every_partition_has_a_tag_of_its_own() {
        for partitions in [16, 128, 1024] {
            let mut tags = hash_tags(partitions);
            assert!(tags.iter().all(|tag| !tag.is_empty()), "{partitions}");
            tags.sort_unstable();
            tags.dedup();
            assert_eq!(tags.len() as u32, partitions);
        }
    }
}
