//! Small sets: which of a few things a stream or the connection still has to say or to be told.

use std::marker::PhantomData;

/// An element of a [`Set`]: an enum of at most eight values.
pub(super) trait Member: Copy + 'static {
    /// All values, in the order in which they are taken.
    const ALL: &'static [Self];

    /// The value's place, below 8.
    fn place(self) -> u8;
}

/// A set of enum values in a byte.
#[derive(Copy, Clone, Debug)]
pub(super) struct Set<M> {
    bits: u8,
    of: PhantomData<M>,
}

impl<M> Default for Set<M> {
    fn default() -> Self {
        Self { bits: 0, of: PhantomData }
    }
}

impl<M: Member> Set<M> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.bits == 0
    }

    #[inline]
    pub(super) fn contains(&self, member: M) -> bool {
        self.bits & (1 << member.place()) != 0
    }

    /// Adds a member; says whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, member: M) -> bool {
        let new = !self.contains(member);
        self.bits |= 1 << member.place();
        new
    }

    #[inline]
    pub(super) fn remove(&mut self, member: M) {
        self.bits &= !(1 << member.place());
    }

    /// The first member in the order of [`Member::ALL`].
    #[inline]
    pub(super) fn first(&self) -> Option<M> {
        M::ALL.get(self.bits.trailing_zeros() as usize).copied()
    }
}

/// Declares an enum whose values can be members of a [`Set`].
macro_rules! members {
    ($(#[$attr:meta])* $name:ident { $($(#[$doc:meta])* $value:ident),+ $(,)? }) => {
        $(#[$attr])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $($(#[$doc])* $value,)+
        }

        impl $crate::stream::sets::Member for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            #[inline]
            fn place(self) -> u8 {
                self as u8
            }
        }
    };
}
pub(super) use members;
