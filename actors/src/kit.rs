//! The actor kit: what every actor here has in common, on top of ractor.
//!
//! ractor runs the actors, orders their mail (signals and supervision before messages) and tells supervisors
//! who has died. The kit adds what it lacks: a meter and a limit on each mailbox, an entry in the registry,
//! and a default supervisor that outlives its children.
//!
//! Actors of which there are very many are members of a crew, which runs them all as one task.

mod crew;
mod mailbox;
mod slot;
mod spawn;

pub use crew::{Crew, Member, MemberFailure, Shift};
pub use mailbox::{Mailbox, SendError};
pub use slot::Slot;
pub use spawn::{Actor, ChildExit, Context, ExitCause, SpawnError, Spawner, StopReason};
