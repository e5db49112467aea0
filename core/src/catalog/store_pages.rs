//! A store's listing in key order, one object at a time with one page in memory.

use std::collections::VecDeque;

use crate::retry::{self, RetryPolicy};
use crate::store::{LIST_LIMIT, ListedObject, Store, StoreError};

/// The prefix of all keys of users' objects.
pub(super) const OBJECTS: &str = "user-";

pub(super) struct Listing<'s> {
    store: &'s Store,
    prefix: &'static str,
    page: VecDeque<ListedObject>,
    after: Option<String>,
    over: bool,
}

impl<'s> Listing<'s> {
    pub(super) fn new(store: &'s Store, prefix: &'static str) -> Self {
        Self { store, prefix, page: VecDeque::new(), after: None, over: false }
    }

    /// The next page; `None` at the end.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ListedObject>>, StoreError> {
        while !self.over {
            let after = self.after.as_deref();
            let list = || self.store.list(self.prefix, after, LIST_LIMIT);
            let page = retry::retry(&RetryPolicy::default(), list, StoreError::retry).await?;
            self.over = page.next.is_none();
            self.after = page.next;
            if !page.objects.is_empty() {
                return Ok(Some(page.objects));
            }
        }
        Ok(None)
    }

    /// Skips everything before `key`. Returns the object with this key, if it is listed.
    pub(super) async fn find(&mut self, key: &str) -> Result<Option<ListedObject>, StoreError> {
        loop {
            while let Some(object) = self.page.front() {
                match object.key.as_bytes().cmp(key.as_bytes()) {
                    std::cmp::Ordering::Less => drop(self.page.pop_front()),
                    // It is kept: the next request may be for the same key.
                    std::cmp::Ordering::Equal => return Ok(Some(object.clone())),
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            match self.page().await? {
                Some(page) => self.page = page.into(),
                None => return Ok(None),
            }
        }
    }
}
