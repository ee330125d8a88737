//! Labels and annotations, kept small: a node may have tens of thousands of ended containers, whose keys and most values are the
//! same words. Each word is kept once for all maps of a table, and so is what many have alike: all keys, or all values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::shelf::Shelves;

/// In bytes. Longer words are seldom the same, and would stay for a while after their containers.
const LONGEST: usize = 256;

/// Keys with their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Sorted.
    keys: Arc<[Arc<str>]>,
    /// In the order of their keys.
    values: Arc<[Arc<str>]>,
}

impl Texts {
    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.keys.binary_search_by(|known| (**known).cmp(key)).ok()?;
        Some(&self.values[at])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// As a request or a reply has them.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.pairs().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.keys.iter().zip(&*self.values)
    }

    /// Takes what others have too from there.
    pub(super) fn share(&mut self, Shelves { words, lists, .. }: &mut Shelves) {
        for list in [&mut self.keys, &mut self.values] {
            for word in Arc::make_mut(list).iter_mut().filter(|word| word.len() <= LONGEST) {
                words.share(word);
            }
            if list.iter().all(|word| word.len() <= LONGEST) {
                lists.share(list);
            }
        }
    }
}

impl From<BTreeMap<String, String>> for Texts {
    fn from(map: BTreeMap<String, String>) -> Self {
        let (keys, values): (Vec<Arc<str>>, Vec<Arc<str>>) =
            map.into_iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).unzip();
        Texts { keys: keys.into(), values: values.into() }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs()).finish()
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
    fn what_is_the_same_is_kept_once_and_long_words_by_those_who_have_them() {
        let mut shelves = Shelves::default();
        let long = "x".repeat(LONGEST + 1);
        let [mut one, mut other, mut third, mut fourth] =
            [("web", "db"), ("db", "web"), ("web", "db"), ("web", long.as_str())]
                .map(|(app, tier)| texts(&[("app", app), ("tier", tier)]));
        for texts in [&mut one, &mut other, &mut third, &mut fourth] {
            texts.share(&mut shelves);
        }
        assert!([&other, &third, &fourth].iter().all(|texts| Arc::ptr_eq(&one.keys, &texts.keys)));
        assert!(Arc::ptr_eq(&one.values, &third.values) && !Arc::ptr_eq(&one.values, &other.values));
        assert!(Arc::ptr_eq(&one.values[0], &other.values[1]) && Arc::ptr_eq(&one.values[0], &fourth.values[0]));
        assert_eq!((Arc::strong_count(&fourth.values), Arc::strong_count(&fourth.values[1])), (1, 1));
        assert_eq!((one.get("tier"), other.get("tier"), other.get("none")), (Some("db"), Some("web"), None));
    }

    #[test]
    fn what_is_shared_can_be_shared_again() {
        let mut shelves = Shelves::default();
        let mut one = texts(&[("app", "web")]);
        one.share(&mut shelves);
        let mut again = one.clone();
        again.share(&mut shelves);
        assert!(Arc::ptr_eq(&one.keys, &again.keys) && Arc::ptr_eq(&one.values, &again.values));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(map in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..8), other in ".{0,5}") {
            let mut texts = Texts::from(map.clone());
            texts.share(&mut Shelves::default());
            prop_assert_eq!(&texts.to_map(), &map);
            for key in map.keys().chain([&other]) {
                prop_assert_eq!(texts.get(key), map.get(key).map(String::as_str));
            }
        }
    }
}
