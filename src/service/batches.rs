//! What all Stream* RPCs are made of: the items of a list, some at a time.
//!
//! Items are made when the client can take them, from a snapshot of handles: a list of any length costs the memory of one batch.
//! Each item is told once, no batch is empty, and the stream ends after the last one.

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, iter};
use prost::Message;

use crate::error::Result;

/// A batch is full when its items have so many bytes: far below the 16 MiB that the kubelet takes, whatever the last one has.
const BATCH_BYTES: usize = 64 << 10;

/// What a streaming verb answers with; an error is the last answer.
pub type Replies<R> = BoxStream<'static, Result<R>>;

/// The items of a list, in messages that `reply` makes of a batch.
pub(super) fn in_batches<T: Message + 'static, R: 'static>(
    mut items: impl Iterator<Item = T> + Send + 'static,
    reply: fn(Vec<T>) -> R,
) -> Replies<R> {
    iter(std::iter::from_fn(move || next_batch(&mut items).map(|batch| Ok(reply(batch))))).boxed()
}

fn next_batch<T: Message>(items: &mut impl Iterator<Item = T>) -> Option<Vec<T>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += item.encoded_len();
        batch.push(item);
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    (!batch.is_empty()).then_some(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::cri;

    fn container(id: &str) -> cri::Container {
        cri::Container { id: id.to_owned(), ..cri::Container::default() }
    }

    fn batches(ids: Vec<String>) -> Vec<Vec<cri::Container>> {
        let items = ids.into_iter().map(|id| container(&id));
        let replies = in_batches(items, |containers| cri::StreamContainersResponse { containers });
        let all: Vec<_> = replies.collect::<Vec<_>>().now_or_never().unwrap();
        all.into_iter().map(|reply| reply.unwrap().containers).collect()
    }

    proptest! {
        #[test]
        fn each_item_is_told_once_and_in_order(lengths in prop::collection::vec(0_usize..100_000, 0..40)) {
            let ids: Vec<String> = lengths.iter().map(|length| "a".repeat(*length)).collect();
            let batches = batches(ids.clone());
            prop_assert!(batches.iter().all(|batch| !batch.is_empty()));
            for batch in &batches {
                let before_last: usize = batch[..batch.len() - 1].iter().map(Message::encoded_len).sum();
                prop_assert!(before_last < BATCH_BYTES);
            }
            let told: Vec<String> = batches.into_iter().flatten().map(|container| container.id).collect();
            prop_assert_eq!(told, ids);
        }
    }

    #[test]
    fn nothing_is_made_before_it_is_wanted() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let items = (0..20_000).map(move |number: usize| {
            counted.fetch_add(1, Ordering::Relaxed);
            container(&format!("{number:064}"))
        });
        let mut replies = in_batches(items, |containers| cri::StreamContainersResponse { containers });
        assert_eq!(made.load(Ordering::Relaxed), 0);
        let first = replies.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(made.load(Ordering::Relaxed), first.containers.len());
        assert!(first.containers.len() < 1000);
    }
}
