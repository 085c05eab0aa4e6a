//! Each parameter: written and read back, and everything wrong with it.

use s2n_codec::{Encoder, EncoderBuffer};
use s2n_quic_core::transport::error::Code;

use super::*;
use crate::frame::varint;
use crate::role::Role;

fn full() -> Parameters {
    let cid = Cid::new(&[3; 20]).unwrap();
    let mut parameters =
        Parameters::local(&TransportConfig::default().migration(false).reset_stream_at(true), cid);
    parameters.original_dcid = Some(cid);
    parameters.retry_scid = Some(Cid::EMPTY);
    parameters.version_information =
        Some(VersionInformation { chosen: 1, available: SmallVec::from_slice(&[1, 0x6b33_43cf]) });
    parameters.stateless_reset_token = Some([9; 16]);
    parameters.cibir = CibirId::new(3, &[1, 2]).map(CibirEncoding::from);
    parameters.preferred_address = Some(PreferredAddress {
        v4: Some("1.2.3.4:5".parse().unwrap()),
        v6: None,
        cid,
        reset_token: [8; 16],
    });
    parameters
}

#[test]
fn what_is_written_is_read_back() {
    for grease in [None, Some(0), Some(u64::MAX), Some(0x1234_5678_9abc_def0)] {
        let bytes = full().encode(grease);
        assert_eq!(Parameters::decode(&bytes, Role::Server).unwrap(), full());
    }
    assert_eq!(Parameters::decode(&[], Role::Client).unwrap(), Parameters::default());
}

#[test]
fn cibir_is_written_as_msquic_writes_it() {
    let cibir = CibirId::new(0, &[1, 2, 3, 4, 5, 6]).map(CibirEncoding::from);
    let parameters = Parameters { cibir, ..Parameters::default() };
    let bytes = parameters.encode(None);
    assert!(bytes.windows(5).any(|part| part == [0x50, 0x00, 2, 6, 0]), "{bytes:x?}");
}

#[test]
fn every_cut_is_an_error_or_shorter() {
    let bytes = full().encode(None);
    for len in 0..bytes.len() {
        if let Err(error) = Parameters::decode(&bytes[..len], Role::Server) {
            assert_eq!(error.code, Code::TRANSPORT_PARAMETER_ERROR);
        }
    }
}

#[test]
fn wrong_values_are_refused() {
    let cases: &[(&[u8], Role)] = &[
        (&[0x00, 1, 7], Role::Client),
        (&[0x02, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Role::Client),
        (&[0x10, 0], Role::Client),
        (&[0x02, 1, 0], Role::Server),
        (&[0x03, 2, 0x44, 0xaf], Role::Server),
        (&[0x08, 8, 0xd0, 0, 0, 0, 0, 0, 0, 1], Role::Server),
        (&[0x09, 8, 0xd0, 0, 0, 0, 0, 0, 0, 1], Role::Server),
        (&[0x0a, 1, 21], Role::Server),
        (&[0x0b, 4, 0x80, 0, 0x40, 0], Role::Server),
        (&[0x0c, 1, 1], Role::Server),
        (&[0x0e, 1, 1], Role::Server),
        (&[0x0d, 1, 1], Role::Server),
        (&[0x11, 0], Role::Server),
        (&[0x11, 3, 0, 0, 1], Role::Server),
        (&[0x11, 6, 0, 0, 0, 1, 0, 0], Role::Server),
        (&[0x11, 4, 0, 0, 0, 0], Role::Server),
        (&[0x11, 8, 0, 0, 0, 1, 0, 0, 0, 0], Role::Server),
        (&[0x11, 8, 0, 0, 0, 1, 0, 0, 0, 2], Role::Client),
        (&[0x01, 1, 1, 0x01, 1, 1], Role::Server),
        (&[0x01, 2, 1, 1], Role::Server),
        (&[0x01, 3, 1], Role::Server),
        (&[0x2a], Role::Server),
        (&[0x50, 0x00, 1, 6], Role::Server),
        (&[0x50, 0x00, 2, 0, 0], Role::Server),
        (&[0x50, 0x00, 3, 1, 0, 0], Role::Client),
        (&[0x50, 0x00, 4, 0x40, 255, 0x40, 1], Role::Client),
        (&[0x50, 0x00, 9, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Role::Client),
    ];
    for (bytes, sender) in cases {
        let error = Parameters::decode(bytes, *sender).expect_err(&format!("{bytes:x?}"));
        assert_eq!(error.code, Code::TRANSPORT_PARAMETER_ERROR, "{bytes:x?}");
    }
    let unknown_twice: &[u8] = &[0x1b, 0, 0x1b, 0];
    assert!(Parameters::decode(unknown_twice, Role::Client).is_err());
    assert!(Parameters::decode(&[0x1b, 1, 5], Role::Client).is_ok());
}

type Row = (u64, bool, &'static [u8], &'static [&'static [u8]]);

/// Every parameter: its identifier, whether only servers send it, a good value, and bad ones.
const TABLE: &[Row] = &[
    (0x00, true, &[1; 8], &[&[1; 21]]),
    (0x01, false, &[10], &[&[], &[1, 1], &[0x40]]),
    (0x02, true, &[1; 16], &[&[1; 15], &[1; 17], &[]]),
    (0x03, false, &[0x44, 0xb0], &[&[], &[0x44, 0xaf], &[0x44, 0xb0, 0]]),
    (0x04, false, &[10], &[&[], &[1, 1]]),
    (0x05, false, &[10], &[&[], &[1, 1]]),
    (0x06, false, &[10], &[&[], &[1, 1]]),
    (0x07, false, &[10], &[&[], &[1, 1]]),
    (0x08, false, &[0xd0, 0, 0, 0, 0, 0, 0, 0], &[&[], &[0xd0, 0, 0, 0, 0, 0, 0, 1]]),
    (0x09, false, &[0xd0, 0, 0, 0, 0, 0, 0, 0], &[&[], &[0xd0, 0, 0, 0, 0, 0, 0, 1]]),
    (0x0a, false, &[20], &[&[], &[21], &[20, 0]]),
    (0x0b, false, &[0x7f, 0xff], &[&[], &[0x80, 0, 0x40, 0]]),
    (0x0c, false, &[], &[&[0]]),
    (
        0x0d,
        true,
        &[
            1, 2, 3, 4, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 7, 7, 7, 7, 7, 7,
            7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        ],
        &[&[], &[0; 24], &[0; 41], &[0; 61]],
    ),
    (0x0e, false, &[2], &[&[], &[1], &[2, 2]]),
    (0x0f, false, &[1; 8], &[&[1; 21]]),
    (0x10, true, &[1; 8], &[&[1; 21]]),
    (0x11, false, &[0, 0, 0, 1, 0, 0, 0, 1], &[&[], &[0, 0, 1], &[0, 0, 0, 0], &[0, 0, 0, 1, 0, 0, 0, 0]]),
    (0x20, false, &[0x40, 100], &[&[], &[1, 1]]),
    (0x2ab2, false, &[], &[&[1]]),
    (0x0017_f758_6d2c_b571, false, &[], &[&[1]]),
    (0xff04_de1b, false, &[0x43, 0xe8], &[&[], &[0x80, 0, 0x61, 0xa9]]),
    (0x9f81_a176, false, &[2], &[&[], &[3]]),
];

fn one(id: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    let mut encoder = EncoderBuffer::new(&mut bytes);
    encoder.encode(&varint(id));
    encoder.encode(&varint(value.len() as u64));
    encoder.write_slice(value);
    let len = encoder.len();
    bytes.truncate(len);
    bytes
}

#[test]
fn every_parameter_is_checked_for_value_role_and_repetition() {
    let refused = |bytes: &[u8], sender, what: &str| {
        let error = Parameters::decode(bytes, sender).expect_err(what);
        assert_eq!(error.code, Code::TRANSPORT_PARAMETER_ERROR, "{what}");
    };
    for &(id, server_only, good, bad) in TABLE {
        let bytes = one(id, good);
        assert!(Parameters::decode(&bytes, Role::Server).is_ok(), "{id:#x}");
        if server_only {
            refused(&bytes, Role::Client, &format!("{id:#x} from a client"));
        } else {
            assert!(Parameters::decode(&bytes, Role::Client).is_ok(), "{id:#x}");
        }
        refused(&[&bytes[..], &bytes].concat(), Role::Server, &format!("{id:#x} twice"));
        for len in 0..bytes.len() {
            if len > 0 {
                refused(&bytes[..len], Role::Server, &format!("{id:#x} cut to {len}"));
            }
        }
        for value in bad {
            refused(&one(id, value), Role::Server, &format!("{id:#x} {value:x?}"));
        }
    }
}

#[test]
fn a_list_without_end_is_refused() {
    // Reserved ones, which mean nothing (RFC 9000 §18.1).
    let list = |count: u64| (0..count).flat_map(|n| one(31 * n + 27, &[])).collect::<Vec<_>>();
    assert!(Parameters::decode(&list(128), Role::Client).is_ok());
    let error = Parameters::decode(&list(129), Role::Client).expect_err("too many");
    assert_eq!(error.code, Code::TRANSPORT_PARAMETER_ERROR);
}
