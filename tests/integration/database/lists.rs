//! Lists of files: keyset pages that contain every file once, in every order, using an index.

use std::collections::BTreeSet;

use nightferry_core::db::files::{ListOrder, ListQuery};
use nightferry_core::file::list;
use nightferry_core::ids::UserId;
use nightferry_tests::harness::{World, pattern};

/// The first page of all live files.
pub(super) fn query(owner: UserId, order: ListOrder, descending: bool) -> ListQuery {
    ListQuery {
        owner,
        folder: None,
        name_contains: None,
        location: None,
        content_type: None,
        trashed: false,
        order,
        descending,
        after: None,
        limit: 3,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_contain_every_file_once_in_every_order() {
    let world = World::new().await;
    let user = world.user().await;
    let stranger = world.user().await;
    world.upload(stranger, "not mine", pattern(9, 5)).await;
    for index in 0..10 {
        // Many files of the same size, so that the id determines their order.
        world.upload(user, &format!("File {index}"), pattern(index, index % 3)).await;
    }
    for descending in [false, true] {
        for order in [ListOrder::Name(None), ListOrder::Size(None), ListOrder::UploadedAt(None)] {
            let mut wanted = query(user, order.clone(), descending);
            let mut seen = Vec::new();
            loop {
                let (page, more) = list::page(&world.context, wanted.clone()).await.unwrap();
                seen.extend(page.iter().map(|file| file.row.clone()));
                let Some(last) = page.last().filter(|_| more) else { break };
                wanted.after = Some(last.row.id);
                wanted.order = match order {
                    ListOrder::Name(_) => ListOrder::Name(Some(last.row.filename.clone())),
                    ListOrder::Size(_) => ListOrder::Size(Some(last.row.file_size)),
                    ListOrder::UploadedAt(_) => ListOrder::UploadedAt(Some(last.row.uploaded_at)),
                };
            }
            let unique: BTreeSet<_> = seen.iter().map(|row| row.id).collect();
            assert_eq!((seen.len(), unique.len()), (10, 10), "{order:?} descending {descending}");
            let sizes: Vec<i64> = seen.iter().map(|row| row.file_size).collect();
            if matches!(order, ListOrder::Size(_)) {
                let ordered = if descending { sizes.is_sorted_by(|a, b| a >= b) } else { sizes.is_sorted() };
                assert!(ordered, "{sizes:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_treats_wildcards_literally() {
    let world = World::new().await;
    let user = world.user().await;
    for name in ["100%.txt", "100 percent.txt", "under_score", "underXscore"] {
        world.upload(user, name, pattern(1, 1)).await;
    }
    for (text, expected) in [("%", 1), ("100", 2), ("R_S", 1), ("PERCENT", 1), ("nothing", 0)] {
        let mut wanted = query(user, ListOrder::Name(None), false);
        wanted.name_contains = Some(text.to_owned());
        wanted.limit = 50;
        assert_eq!(list::page(&world.context, wanted).await.unwrap().0.len(), expected, "{text}");
    }
}
