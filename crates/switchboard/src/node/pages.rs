//! Lists in pages, for whoever must not hold all of a list at once.

use std::sync::Arc;

use switchboard_proto::call::{CallError, RoomStatus};
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::{Pattern, RoomInfo, RoomPage};

use super::Node;
use super::chat::{existing_name, unavailable};
use super::connection::ConnectionInfo;

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Page<T, K> {
    /// What is in it, in the order of the keys.
    pub items: Vec<T>,
    /// The key behind which the next page begins; `None`: there is nothing more.
    pub next: Option<K>,
}

/// A room without the names of its members.
#[derive(Clone, Debug)]
pub struct RoomSummary {
    /// Which room.
    pub room: RoomName,
    /// How many members it has.
    pub members_count: usize,
    /// Who may join.
    pub pattern: Arc<Pattern>,
}

/// A room, its members and who may join.
#[derive(Clone, Debug)]
pub struct RoomDetails {
    /// Which room, and who is inside.
    pub status: RoomStatus,
    /// Who may join.
    pub pattern: Arc<Pattern>,
}

impl Node {
    /// At most `limit` connections of all nodes, in the order of their ids, beginning behind `after`. Who stays connected
    /// while the pages are read is on exactly one of them, whichever nodes are asked for them.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`] when a node does not answer.
    pub async fn page_of_connections(
        &self,
        after: Option<ConnId>,
        limit: usize,
    ) -> Result<Page<ConnectionInfo, ConnId>, CallError> {
        match self.peers() {
            Some(_) => self.page_of_all(after, limit).await,
            None => Ok(self.page_of_connections_here(after, limit).await),
        }
    }

    pub(super) async fn page_of_connections_here(
        &self,
        after: Option<ConnId>,
        limit: usize,
    ) -> Page<ConnectionInfo, ConnId> {
        // One more shows whether there is another page.
        let mut ids = self.0.registry.ids_after(after, limit.saturating_add(1));
        let has_more = ids.len() > limit;
        ids.truncate(limit);
        Page { items: self.inspect(&ids).await, next: ids.last().copied().filter(|_| has_more) }
    }

    /// At most `limit` rooms, in the order of their names, beginning behind `after`.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn page_of_rooms(
        &self,
        after: Option<&RoomName>,
        limit: usize,
    ) -> Result<Page<RoomSummary, RoomName>, CallError> {
        let RoomPage { rooms, next } = self.directory().page(after, limit).await.map_err(unavailable)?;
        let summary = |(room, info): (RoomName, RoomInfo)| {
            let RoomInfo { members_count, pattern, .. } = info;
            RoomSummary { room, members_count, pattern }
        };
        Ok(Page { items: rooms.into_iter().map(summary).collect(), next })
    }

    /// A room, its members and who may join.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`].
    pub async fn room_details(&self, room: &str) -> Result<RoomDetails, CallError> {
        let name = existing_name(room)?;
        let info = self.directory().room(&name).await.map_err(unavailable)?.ok_or(CallError::NoSuchRoom)?;
        Ok(RoomDetails { status: self.status_of(name).await?, pattern: info.pattern })
    }
}

/// Pages of several lists, each of at most `limit` items, as one of the list that they are together.
pub(super) fn merge<T, K: Ord + Copy>(pages: Vec<Page<T, K>>, limit: usize, key: impl Fn(&T) -> K) -> Page<T, K> {
    // Behind the end of a page that was cut nobody knows what is missing.
    let known = pages.iter().filter_map(|page| page.next).min();
    let mut items: Vec<T> = pages.into_iter().flat_map(|page| page.items).collect();
    items.retain(|item| known.is_none_or(|known| key(item) <= known));
    items.sort_unstable_by_key(&key);
    let is_cut = items.len() > limit;
    items.truncate(limit);
    let next = if is_cut { items.last().map(key) } else { known };
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::{Page, merge};

    #[test]
    fn pages_of_several_lists_are_pages_of_one() {
        // Of each list a different part is shown for one limit, and what has gone meanwhile is not in its page.
        let lists: [Vec<u32>; 3] =
            [0, 1, 2].map(|list| (0..30).filter(|item| item * item % 3 == list || item % 5 == list).collect());
        let mut all: Vec<u32> = lists.concat();
        all.sort_unstable();
        all.dedup();
        let mut taken = std::collections::HashSet::new();
        let lists = lists.map(|list| list.into_iter().filter(|item| taken.insert(*item)).collect::<Vec<_>>());
        for (limit, most) in (1..=12).flat_map(|limit| (1..=limit).map(move |most| (limit, most))) {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = |list: &Vec<u32>| {
                    let mut items: Vec<u32> =
                        list.iter().copied().filter(|item| after.is_none_or(|after| *item > after)).collect();
                    items.sort_unstable();
                    let next = items.get(most - 1).copied().filter(|_| items.len() > most);
                    items.truncate(most);
                    items.retain(|item| item % 7 != 0);
                    Page { items, next }
                };
                let merged = merge(lists.iter().map(page).collect(), limit, |item| *item);
                assert!(merged.items.len() <= limit);
                assert!(merged.next.is_none_or(|next| after.is_none_or(|after| next > after)), "{limit} {most}");
                seen.extend(merged.items);
                after = merged.next;
                if after.is_none() {
                    break;
                }
            }
            let expected: Vec<u32> = all.iter().copied().filter(|item| item % 7 != 0).collect();
            assert_eq!(seen, expected, "{limit} {most}");
        }
    }
}
