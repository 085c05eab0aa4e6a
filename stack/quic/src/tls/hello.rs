//! The little of a ClientHello that a server needs to know before TLS begins: which versions of QUIC the client speaks
//! (RFC 9368 §4), and whether 0-RTT data comes with it.

/// Type of the ClientHello message (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;

/// The early_data extension (RFC 8446 §4.2.10).
const EARLY_DATA: u16 = 42;

/// The quic_transport_parameters extension (RFC 9001 §8.2).
const TRANSPORT_PARAMETERS: u16 = 0x39;

/// What was found in a ClientHello.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello<'a> {
    /// Encoded transport parameters.
    pub(crate) transport_parameters: Option<&'a [u8]>,
    /// 0-RTT data follows.
    pub(crate) early_data: bool,
}

/// Is the first handshake message of these bytes whole? What is no ClientHello counts as such: TLS is to judge it.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    match bytes {
        [CLIENT_HELLO, a, b, c, body @ ..] => body.len() >= u32::from_be_bytes([0, *a, *b, *c]) as usize,
        [] | [CLIENT_HELLO, ..] => false,
        _ => true,
    }
}

impl<'a> ClientHello<'a> {
    /// Reads a whole ClientHello; `None` if it is malformed, which is for TLS to tell.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[CLIENT_HELLO, a, b, c], rest) = bytes.split_first_chunk::<4>()? else { return None };
        let mut rest = rest.get(..u32::from_be_bytes([0, a, b, c]) as usize)?;
        // Version and random; session ID, cipher suites, compression methods (RFC 8446 §4.1.2).
        take(&mut rest, 2 + 32)?;
        vector::<1>(&mut rest)?;
        vector::<2>(&mut rest)?;
        vector::<1>(&mut rest)?;
        let mut extensions = vector::<2>(&mut rest)?;
        let mut hello = Self::default();
        while !extensions.is_empty() {
            let kind = u16::from_be_bytes(take(&mut extensions, 2)?.try_into().ok()?);
            let content = vector::<2>(&mut extensions)?;
            match kind {
                EARLY_DATA => hello.early_data = true,
                TRANSPORT_PARAMETERS => hello.transport_parameters = Some(content),
                _ => {}
            }
        }
        Some(hello)
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// Bytes that follow their length, a number of `N` bytes.
fn vector<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(bytes, N)?.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
    take(bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3; 34];
        body.extend([2, 7, 7, 0, 2, 0x13, 0x01, 1, 0]);
        let mut list = Vec::new();
        for (kind, content) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((content.len() as u16).to_be_bytes());
            list.extend(*content);
        }
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut bytes = (body.len() as u32 | 1 << 24).to_be_bytes().to_vec();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn parameters_and_early_data_are_found() {
        let bytes = hello(&[(0, b"name"), (0x39, b"parameters"), (42, b"")]);
        assert!(is_whole(&bytes));
        let found = ClientHello::read(&bytes).unwrap();
        assert_eq!(found, ClientHello { transport_parameters: Some(b"parameters"), early_data: true });
        assert_eq!(ClientHello::read(&hello(&[])), Some(ClientHello::default()));
    }

    #[test]
    fn every_cut_is_told() {
        let bytes = hello(&[(0, b"name"), (0x39, b"parameters")]);
        for len in 0..bytes.len() {
            assert!(!is_whole(&bytes[..len]));
            assert_eq!(ClientHello::read(&bytes[..len]), None);
            // The same with a length that fits the cut.
            if len > 4 {
                let mut cut = bytes[..len].to_vec();
                cut[..4].copy_from_slice(&((len as u32 - 4) | 1 << 24).to_be_bytes());
                assert_eq!(ClientHello::read(&cut), None, "{len}");
            }
        }
        assert!(is_whole(&[2]));
        assert_eq!(ClientHello::read(&[2, 0, 0, 0]), None);
    }
}
