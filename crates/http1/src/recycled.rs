//! Boxes that are used again. What a message's fields are kept in is large, is moved from hand to hand with its head,
//! and is needed once per message: in a box it moves for nothing, and a box that was used before costs no allocation.
//!
//! Each thread keeps the boxes it has dropped, a few of them, empty.

use std::cell::{Cell, RefCell};
use std::fmt;

/// Boxes of one kind that a thread keeps: more than it uses in one turn of its loop.
const SPARES_MAX: usize = 64;

/// The spare boxes of one kind.
pub(crate) struct Spares<T> {
    /// The one that was dropped last. Mostly there is no other: one message is over before the next is begun.
    last: Cell<Option<Box<T>>>,
    others: RefCell<Vec<Box<T>>>,
}

impl<T> Spares<T> {
    pub(crate) const fn new() -> Self {
        Self { last: Cell::new(None), others: RefCell::new(Vec::new()) }
    }

    #[inline]
    fn take(&self) -> Option<Box<T>> {
        self.last.take().or_else(|| self.others.borrow_mut().pop())
    }

    #[inline]
    fn put(&self, spare: Box<T>) {
        if let Some(other) = self.last.replace(Some(spare)) {
            self.put_aside(other);
        }
    }

    /// Without a place among the spare ones it is simply freed.
    #[cold]
    fn put_aside(&self, spare: Box<T>) {
        let others = &mut *self.others.borrow_mut();
        if others.len() + 1 < SPARES_MAX {
            others.push(spare);
        }
    }
}

/// What is worth using again.
pub(crate) trait Recycle: Default + 'static {
    /// Looks at this thread's spare boxes; a thread that is ending has none any more.
    fn with_spares<R>(look: impl FnOnce(&Spares<Self>) -> R) -> Option<R>;

    /// Empties it; false when it has become too large to be kept.
    fn clear(&mut self) -> bool;
}

/// A box from the spare ones, and back to them when dropped. As long as nothing was put in, there is none.
pub(crate) struct Recycled<T: Recycle>(Option<Box<T>>);

impl<T: Recycle> Recycled<T> {
    pub(crate) const EMPTY: Self = Self(None);

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// What is in the box, which is fetched if there is none.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(Self::fetch)
    }

    #[inline(never)]
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is wanted")]
    fn fetch() -> Box<T> {
        T::with_spares(Spares::take).flatten().unwrap_or_default()
    }
}

impl<T: Recycle> Drop for Recycled<T> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut content) = self.0.take() else { return };
        if content.clear() {
            let _ = T::with_spares(|spares| spares.put(content));
        }
    }
}

impl<T: Recycle> Default for Recycled<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Recycle + Clone> Clone for Recycled<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::EMPTY;
        if let Some(content) = self.get() {
            copy.get_mut().clone_from(content);
        }
        copy
    }
}

impl<T: Recycle + fmt::Debug> fmt::Debug for Recycled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 100;

    #[derive(Debug, Default, Clone)]
    struct Note(Vec<u8>);

    impl Recycle for Note {
        fn with_spares<R>(look: impl FnOnce(&Spares<Self>) -> R) -> Option<R> {
            thread_local!(static SPARES: Spares<Note> = const { Spares::new() });
            SPARES.try_with(look).ok()
        }

        fn clear(&mut self) -> bool {
            self.0.clear();
            self.0.capacity() < LARGE
        }
    }

    fn spares() -> usize {
        let count = |spares: &Spares<Note>| {
            let last = spares.last.take();
            let count = spares.others.borrow().len() + usize::from(last.is_some());
            spares.last.set(last);
            count
        };
        Note::with_spares(count).unwrap_or_default()
    }

    fn note(text: &[u8]) -> Recycled<Note> {
        let mut note = Recycled::<Note>::EMPTY;
        note.get_mut().0.extend_from_slice(text);
        note
    }

    #[test]
    fn a_box_comes_back_empty() {
        drop(note(b"secret"));
        assert_eq!(spares(), 1);
        let mut again = Recycled::<Note>::EMPTY;
        assert!(again.get().is_none() && spares() == 1, "fetched when it is needed");
        assert!(again.get_mut().0.is_empty());
        assert!(again.get_mut().0.capacity() > 0 && spares() == 0, "it is the one that was dropped");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        drop(note(&[0; LARGE]));
        assert_eq!(spares(), 0, "too large");
        drop((0..2 * SPARES_MAX).map(|_| note(b"x")).collect::<Vec<_>>());
        assert_eq!(spares(), SPARES_MAX);
    }

    #[test]
    fn a_copy_is_independent() {
        let mut first = note(b"a");
        let second = first.clone();
        first.get_mut().0.push(b'b');
        assert_eq!((first.get_mut().0.len(), second.get().map(|note| note.0.len())), (2, Some(1)));
    }
}
