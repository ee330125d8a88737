//! Labels and annotations, kept small: a node may have tens of thousands of ended containers, whose keys and most values are the
//! same words. A map is one block of pointers, and each word is kept once for all maps of a table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::shelf::Shelf;

/// In bytes. Longer words are seldom the same, and would stay for a while after their containers.
const LONGEST: usize = 256;

/// Keys with their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// By key.
    pairs: Box<[(Arc<str>, Arc<str>)]>,
}

impl Texts {
    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.pairs[at].1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// As a request or a reply has them.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// Takes the words that others have too from there.
    pub(super) fn share(&mut self, words: &mut Shelf<str>) {
        let all = self.pairs.iter_mut().flat_map(|(key, value)| [key, value]);
        for word in all.filter(|word| word.len() <= LONGEST) {
            words.share(word);
        }
    }
}

impl From<BTreeMap<String, String>> for Texts {
    fn from(map: BTreeMap<String, String>) -> Self {
        Texts { pairs: map.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs.iter().map(|(key, value)| (key, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        let map: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        map.into()
    }

    #[test]
    fn words_are_kept_once_and_long_ones_by_those_who_have_them() {
        let mut words = Shelf::default();
        let long = "x".repeat(LONGEST + 1);
        let [mut one, mut other] = [("web", "db"), ("db", "web")]
            .map(|(app, tier)| texts(&[("app", app), ("tier", tier), ("long", long.as_str())]));
        one.share(&mut words);
        other.share(&mut words);
        // by key: app, long, tier
        assert!(Arc::ptr_eq(&one.pairs[0].0, &other.pairs[0].0) && Arc::ptr_eq(&one.pairs[0].1, &other.pairs[2].1));
        assert!(!Arc::ptr_eq(&one.pairs[1].1, &other.pairs[1].1));
        assert_eq!((one.get("tier"), other.get("tier"), other.get("none")), (Some("db"), Some("web"), None));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(map in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..8), other in ".{0,5}") {
            let mut texts = Texts::from(map.clone());
            texts.share(&mut Shelf::default());
            prop_assert_eq!(&texts.to_map(), &map);
            for key in map.keys().chain([&other]) {
                prop_assert_eq!(texts.get(key), map.get(key).map(String::as_str));
            }
        }
    }
}
