//! Names and paths kept small: but for a container's id, or the number of its attempt, they are those of many.

use std::sync::Arc;

use super::shelf::Shelf;

/// In place of what is its container's own; no name and no path has it.
const MARK: &str = "\0";

/// A text without what is its container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnText(Arc<str>);

impl OwnText {
    /// Takes what is the container's own out of a text, wherever it stands there, if it does.
    pub fn new(text: &str, own: &str) -> Self {
        OwnText(text.replace(own, MARK).into())
    }

    /// The text, with the same put in again.
    pub fn of(&self, own: &str) -> String {
        self.0.replace(MARK, own)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what others have too from there.
    pub(super) fn share(&mut self, words: &mut Shelf<str>) {
        words.share(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_differ_in_what_is_their_own_are_kept_once() {
        let mut words = Shelf::default();
        let [mut one, mut other] = ["a1", "b2"].map(|id| OwnText::new(&format!("/spools/{id}/{id}-json.log"), id));
        one.share(&mut words);
        other.share(&mut words);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert_eq!((one.of("a1"), other.of("b2")), ("/spools/a1/a1-json.log".into(), "/spools/b2/b2-json.log".into()));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(text in "(/[^\0]{0,3}|/1[.]log){0,4}", own in "[^\0]{1,3}|/1[.]log") {
            let kept = OwnText::new(&text, &own);
            prop_assert_eq!(kept.is_empty(), text.is_empty());
            prop_assert_eq!(kept.of(&own), text);
        }
    }
}
