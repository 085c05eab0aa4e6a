//! Keys and the CRYPTO streams.

mod offsets;
mod stream;

pub(crate) use stream::CryptoStream;
