//! Labels and annotations, kept small: a node may have tens of thousands of ended containers, whose keys and most values are the
//! same words. A map is one block of pointers, and each word is kept once for all maps of a table.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// As many words are kept before it is looked which of them nobody uses any more.
const LEAST: usize = 1024;

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

    /// As a request or a reply has them.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// Takes the words that others have too from there.
    pub(super) fn share(&mut self, words: &mut Words) {
        for (key, value) in &mut self.pairs {
            words.share(key);
            words.share(value);
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

/// The words in use, and for a while some that were.
#[derive(Default)]
pub(super) struct Words {
    known: HashSet<Arc<str>>,
    /// How many there may be before those out of use are dropped.
    limit: usize,
}

impl Words {
    fn share(&mut self, word: &mut Arc<str>) {
        if word.len() > LONGEST {
            return;
        }
        if let Some(known) = self.known.get(&**word) {
            *word = known.clone();
            return;
        }
        if self.known.len() >= self.limit {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.limit = LEAST.max(2 * self.known.len());
        }
        self.known.insert(word.clone());
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
    fn a_word_is_kept_once() {
        let mut words = Words::default();
        let (mut one, mut other) = (texts(&[("app", "web"), ("tier", "web")]), texts(&[("app", "db")]));
        one.share(&mut words);
        other.share(&mut words);
        assert!(Arc::ptr_eq(&one.pairs[0].0, &other.pairs[0].0) && Arc::ptr_eq(&one.pairs[0].1, &one.pairs[1].1));
        assert_eq!(words.known.len(), 4);
        assert_eq!((one.get("tier"), other.get("app"), other.get("tier")), (Some("web"), Some("db"), None));
    }

    #[test]
    fn words_out_of_use_are_dropped() {
        let mut words = Words::default();
        let mut kept = texts(&[("kept", "always")]);
        kept.share(&mut words);
        for number in 0..100 * LEAST {
            texts(&[("pod", &number.to_string())]).share(&mut words);
            assert!(words.known.len() <= 2 * LEAST, "{}", words.known.len());
        }
        let mut again = texts(&[("kept", "always")]);
        again.share(&mut words);
        assert!(Arc::ptr_eq(&kept.pairs[0].1, &again.pairs[0].1));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(map in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..8), other in ".{0,5}") {
            let mut texts = Texts::from(map.clone());
            texts.share(&mut Words::default());
            prop_assert_eq!(&texts.to_map(), &map);
            for key in map.keys().chain([&other]) {
                prop_assert_eq!(texts.get(key), map.get(key).map(String::as_str));
            }
        }
    }
}
