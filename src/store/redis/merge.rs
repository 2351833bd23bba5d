//! Merges sorted pages, one of each partition.

/// A page of one partition, in order.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Whether there may be more items after these.
    pub(super) is_full: bool,
}

/// All items in one order, up to where the first full page ends: what follows there is not known.
/// Returns also whether there may be more.
pub(super) fn merge<T, K: Ord>(pages: Vec<Page<T>>, key: impl Fn(&T) -> K) -> (Vec<T>, bool) {
    let full = pages.iter().filter(|page| page.is_full);
    let horizon = full.filter_map(|page| page.items.last().map(&key)).min();
    let mut items: Vec<_> = pages.into_iter().flat_map(|page| page.items).collect();
    items.retain(|item| horizon.as_ref().is_none_or(|horizon| key(item) <= *horizon));
    items.sort_by_key(key);
    (items, horizon.is_some())
}

/// How many items to ask each of some sources for, if so many are wanted of all: twice the fair share.
pub(super) fn share(limit: usize, sources: usize) -> usize {
    const LEAST: usize = 8;
    const MOST: usize = 1000;
    (limit.saturating_mul(2) / sources.max(1)).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::{Page, merge, share};

    fn page(items: &[u32], is_full: bool) -> Page<u32> {
        Page { items: items.to_vec(), is_full }
    }

    fn merged(pages: Vec<Page<u32>>) -> (Vec<u32>, bool) {
        merge(pages, |item| *item)
    }

    #[test]
    fn whole_pages_are_merged_whole() {
        let pages = vec![page(&[1, 5, 9], false), page(&[], false), page(&[2, 3], false)];
        assert_eq!(merged(pages), (vec![1, 2, 3, 5, 9], false));
        assert_eq!(merged(Vec::new()), (Vec::new(), false));
    }

    #[test]
    fn nothing_after_the_end_of_a_full_page_is_returned() {
        let pages = vec![page(&[1, 5, 9], true), page(&[2, 6], true), page(&[3, 7], false)];
        assert_eq!(merged(pages), (vec![1, 2, 3, 5, 6], true));
    }

    #[test]
    fn pages_read_one_after_another_make_the_whole() {
        let sources: Vec<Vec<u32>> =
            (0..7).map(|s| (0..100).map(|n| n * 7 + s).collect()).collect();
        for size in [1, 3, 50, 200] {
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let pages = sources.iter().map(|source| {
                    let rest =
                        source.iter().copied().filter(|item| after.is_none_or(|a| *item > a));
                    let items: Vec<_> = rest.take(size).collect();
                    Page { is_full: items.len() == size, items }
                });
                let (items, is_more) = merged(pages.collect());
                after = items.last().copied().or(after);
                read.extend(items);
                if !is_more {
                    break;
                }
            }
            assert_eq!(read, (0..700).collect::<Vec<_>>(), "pages of {size}");
        }
    }

    #[test]
    fn a_share_is_never_tiny_or_huge() {
        assert_eq!([share(0, 64), share(1000, 64), share(usize::MAX, 64)], [8, 31, 1000]);
    }
}
