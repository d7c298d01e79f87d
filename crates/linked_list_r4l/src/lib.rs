//! The queue of tasks that are ready, as ArceOS's scheduler crate (`axsched`) asks for it.
//!
//! The crate of this name on crates.io is under the GPL, and an image with it could not be given away under AxHV's licence. The workspace's
//! `[patch]` has this one linked in its place: what `axsched` calls and no more, on a ring buffer. That grows when more tasks are ready than
//! ever before; there are as many as there are vCPUs, and a few of the host's.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{collections::VecDeque, sync::Arc};
use core::marker::PhantomData;

/// A queue of `Arc`s.
#[derive(Debug)]
pub struct List<W> {
    queue: VecDeque<W>,
}

impl<W> List<W> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
        }
    }

    /// Adds the last one.
    pub fn push_back(&mut self, entry: W) {
        self.queue.push_back(entry);
    }

    /// Adds the first one.
    pub fn push_front(&mut self, entry: W) {
        self.queue.push_front(entry);
    }

    /// Takes the first one out.
    pub fn pop_front(&mut self) -> Option<W> {
        self.queue.pop_front()
    }
}

impl<W> Default for List<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> List<Arc<T>> {
    /// Takes this very one out, wherever it is; `None` if it is not here.
    pub fn remove(&mut self, entry: &Arc<T>) -> Option<Arc<T>> {
        let position = self
            .queue
            .iter()
            .position(|here| Arc::ptr_eq(here, entry))?;
        self.queue.remove(position)
    }
}

/// What an entry has in it for the sake of the list: this one needs nothing.
#[derive(Debug)]
pub struct Links<T: ?Sized>(PhantomData<fn() -> *const T>);

impl<T: ?Sized> Links<T> {
    /// Those of an entry that is in no list.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: ?Sized> Default for Links<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What can be in a list.
pub trait GetLinks {
    /// Itself, or what it wraps.
    type EntryType: ?Sized;

    /// Its links.
    fn get_links(data: &Self::EntryType) -> &Links<Self::EntryType>;
}

/// Defines a wrapper that can be in a list.
#[macro_export]
macro_rules! def_node {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident<$inner:ident>($wrapped:ty);) => {
        $(#[$attribute])*
        $visibility struct $name<$inner> {
            inner: $wrapped,
            links: $crate::Links<Self>,
        }

        impl<$inner> $name<$inner> {
            /// Wraps `inner`.
            $visibility const fn new(inner: $wrapped) -> Self {
                Self { inner, links: $crate::Links::new() }
            }

            /// What is wrapped.
            $visibility const fn inner(&self) -> &$wrapped {
                &self.inner
            }
        }

        impl<$inner> $crate::GetLinks for $name<$inner> {
            type EntryType = Self;

            fn get_links(data: &Self) -> &$crate::Links<Self> {
                &data.links
            }
        }

        impl<$inner> ::core::ops::Deref for $name<$inner> {
            type Target = $wrapped;

            fn deref(&self) -> &$wrapped {
                &self.inner
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::List;

    def_node! {
        /// A task.
        struct Task<T>(T);
    }

    fn task(number: u32) -> Arc<Task<u32>> {
        Arc::new(Task::new(number))
    }

    #[test]
    fn the_first_comes_first() {
        let mut ready = List::new();
        ready.push_back(task(1));
        ready.push_back(task(2));
        ready.push_front(task(0));
        let order = core::iter::from_fn(|| ready.pop_front().map(|task| *task.inner()));
        assert!(order.eq([0, 1, 2]));
    }

    #[test]
    fn one_is_known_by_what_it_is_and_not_by_its_value() {
        let mut ready = List::default();
        let (one, same) = (task(7), task(7));
        ready.push_back(one.clone());
        assert!(ready.remove(&same).is_none());
        ready.push_back(same.clone());
        let removed = ready.remove(&same).expect("it is there");
        assert!(Arc::ptr_eq(&removed, &same));
        assert!(Arc::ptr_eq(&ready.pop_front().expect("it is there"), &one));
        assert!(ready.pop_front().is_none());
        assert_eq!(Arc::strong_count(&one), 1);
    }
}
