//! The link between an application's handles and the actor of its connection.
//!
//! Both sides share a little state under short locks. The application's commands queue up and one doorbell
//! message tells the actor of all of them; what the actor has for the application it puts where the handles
//! look, and wakes them. So a batch of commands costs one message, a batch of packets one wake-up, and neither
//! side waits for the other. The state machine itself is the actor's alone.

mod connection;
mod open;
mod stream;

pub use connection::{Agreed, Command, ConnectionLink, EarlyData, LinkError, Phase};
pub use open::StreamFigures;
pub(crate) use open::{OpenStream, OpenStreams};
pub(crate) use stream::WriteEnd;
pub use stream::{ReadEnd, StreamLink};
