//! Keys and the CRYPTO streams.

mod assembly;
mod offsets;
mod stream;

pub(crate) use stream::CryptoStream;
