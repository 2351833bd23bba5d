//! Which node keeps a partition: moves its log's clock on, trims it, and applies its wall deadlines.

use crate::presence::NodeId;

/// The node with the greatest hash of partition and node keeps the partition. All nodes agree without talking,
/// and if one leaves, only its own partitions get another keeper. Two keepers at once do no harm.
pub(super) fn keeper(part: u32, nodes: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
    nodes.into_iter().max_by_key(|node| (mixed(node.0 ^ mixed(u64::from(part))), *node))
}

/// Mixes the bits of a number (the finalizer of SplitMix64).
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::keeper;
    use crate::presence::NodeId;

    #[test]
    fn partitions_are_spread_over_the_nodes() {
        let nodes = [NodeId(1), NodeId(2), NodeId(u64::MAX)];
        for node in nodes {
            let kept = (0..64).filter(|part| keeper(*part, nodes) == Some(node)).count();
            assert!((10..=35).contains(&kept), "{node} keeps {kept} of 64");
        }
        assert_eq!(keeper(0, []), None);
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_partitions() {
        let (all, left) = ([NodeId(1), NodeId(2), NodeId(3)], [NodeId(1), NodeId(3)]);
        for part in 0..64 {
            let before = keeper(part, all);
            if before != Some(NodeId(2)) {
                assert_eq!(keeper(part, left), before, "partition {part}");
            }
        }
    }
}
