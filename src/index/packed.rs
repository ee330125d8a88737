//! Messages of the CRI kept small: as they go over the wire, and equal ones once for all of a table. A node may have tens of
//! thousands of ended containers, whose limits, images and users are few, and nobody looks at them but to tell them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::shelf::Shelf;

/// A message, encoded: a few words of memory, where the value has some for each of its fields. Cheap to clone.
pub struct Packed<M> {
    bytes: Arc<[u8]>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Packed<M> {
    /// Packs a message.
    pub fn new(message: &M) -> Self {
        Packed { bytes: message.encode_to_vec().into(), message: PhantomData }
    }

    /// The message, as it was packed.
    pub fn open(&self) -> M {
        // what has been encoded here can be decoded
        M::decode(&*self.bytes).unwrap_or_default()
    }

    /// Changes the message in its place.
    pub fn edit(&mut self, edit: impl FnOnce(&mut M)) {
        let mut message = self.open();
        edit(&mut message);
        *self = Packed::new(&message);
    }

    /// Takes the bytes that others have too from there.
    pub(super) fn share(&mut self, shelf: &mut Shelf<[u8]>) {
        shelf.share(&mut self.bytes);
    }
}

impl<M> Clone for Packed<M> {
    fn clone(&self) -> Self {
        Packed { bytes: self.bytes.clone(), message: PhantomData }
    }
}

impl<M: Message + Default + fmt::Debug> fmt::Debug for Packed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{HugepageLimit, LinuxContainerResources};

    fn limits(page_size: &str) -> LinuxContainerResources {
        let hugepage_limits = vec![HugepageLimit { page_size: page_size.to_owned(), limit: u64::MAX }];
        LinuxContainerResources { memory_limit_in_bytes: -1, hugepage_limits, ..LinuxContainerResources::default() }
    }

    #[test]
    fn what_is_packed_comes_out_and_can_be_changed() {
        let mut packed = Packed::new(&limits("2MB"));
        assert_eq!(packed.open(), limits("2MB"));
        packed.edit(|limits| limits.cpu_shares = 7);
        assert_eq!(packed.open(), LinuxContainerResources { cpu_shares: 7, ..limits("2MB") });
    }

    #[test]
    fn equal_messages_are_kept_once_and_a_change_of_one_is_no_change_of_the_other() {
        let mut shelf = Shelf::default();
        let [mut one, mut other, mut third] = ["2MB", "2MB", "1GB"].map(|size| Packed::new(&limits(size)));
        for packed in [&mut one, &mut other, &mut third] {
            packed.share(&mut shelf);
        }
        assert!(Arc::ptr_eq(&one.bytes, &other.bytes) && !Arc::ptr_eq(&one.bytes, &third.bytes));
        one.edit(|limits| limits.cpu_shares = 7);
        assert_eq!(other.open(), limits("2MB"));
    }
}
