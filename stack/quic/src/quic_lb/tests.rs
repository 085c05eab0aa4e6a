//! The draft's test vectors, and what holds for every configuration.

use std::collections::HashSet;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key(text: &str) -> [u8; BLOCK_LEN] {
    hex(text).try_into().unwrap()
}

#[track_caller]
fn check(lb: QuicLb, nonce: &str, cid: &str) {
    let made = lb.encode(&hex(nonce)).unwrap();
    assert_eq!(made.to_string(), cid);
    assert_eq!(lb.decode(made.as_slice()), Cid::new(lb.server_id()));
}

/// Appendix B.1. The layouts are the draft's, with nonces shorter than the generator allows.
#[test]
fn vectors_in_the_clear() {
    let lb = |config, server_id: &str, nonce_len| QuicLb::layout(config, &hex(server_id), nonce_len).unwrap();
    check(lb(0, "c4605e", 4), "4504cc4f", "07c4605e4504cc4f");
    // The draft prints the first octet of this one without the length, and its columns a digit apart.
    check(lb(1, "a350d28b42", 5), "03487d970b", "2aa350d28b4203487d970b");
}

/// Appendix B.2: four passes with halves of 4 and of 8 bytes, one pass, and four with a server ID over both halves.
#[test]
fn encrypted_vectors() {
    let key = key("8f95f09245765f80256934e50c66207f");
    let lb = |config, server_id: &str, nonce_len| {
        QuicLb::encrypted(config, &hex(server_id), nonce_len, &key).unwrap()
    };
    check(lb(0, "ed793a", 4), "ee080dbf", "0720b1d07b359d3c");
    check(lb(1, "ed793a51d49b8f5fab65", 5), "ee080dbf48", "2fcc381bc74cb4fbad2823a3d1f8fed2");
    check(lb(2, "ed793a51d49b8f5f", 8), "ee080dbf48c0d1e5", "504dd2d05a7b0de9b2b9907afb5ecf8cc3");
    // The draft's table says 3, its ID says 0.
    check(lb(0, "ed793a51d49b8f5fab", 9), "ee080dbf48c0d1e55d", "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc");
}

/// The worked example of §5.4.2.
#[test]
fn the_drafts_example() {
    let lb = QuicLb::encrypted(0, &hex("31441a"), 4, &key("fdf726a9893ec05c0632d3956680baf0")).unwrap();
    check(lb, "9c69c275", "0767947d29be054a");
}

/// Every lawful layout, in the clear and encrypted: the server reads its own ID back, IDs differ, and those of a
/// neighbour are not taken for its own.
#[test]
fn every_layout_reads_back() {
    let key = key("8f95f09245765f80256934e50c66207f");
    let server_id: Vec<u8> = (1..=15).collect();
    for (id_len, nonce_len) in (1..=15).flat_map(|id| (4..=19 - id).map(move |nonce| (id, nonce))) {
        let id = &server_id[..id_len];
        let mut neighbour = id.to_vec();
        neighbour[id_len - 1] ^= 1;
        for lb in
            [QuicLb::plain(6, id, nonce_len), QuicLb::encrypted(6, id, nonce_len, &key)].into_iter().flatten()
        {
            let other = QuicLb { server_id: Cid::new(&neighbour).unwrap(), ..lb.clone() };
            let cids = QuicLbCids::new(lb.clone(), ResetKey::random());
            let made: HashSet<Cid> = (0..50).map(|_| cids.generate()).collect();
            assert_eq!(made.len(), 50, "{lb:?}");
            for cid in made {
                assert_eq!((cid.len(), cid.as_slice()[0]), (cids.len(), 6 << 5 | (cids.len() - 1) as u8));
                assert!(cids.validate(cid.as_slice()), "{lb:?} {cid}");
                assert!(lb.prefix().is_none_or(|prefix| cid.as_slice().starts_with(prefix.as_slice())));
                assert_eq!(other.decode(cid.as_slice()), Cid::new(id));
            }
            let cids = QuicLbCids::new(other, ResetKey::random());
            assert!(!cids.validate(lb.encode(&vec![7; nonce_len]).unwrap().as_slice()));
        }
    }
}

#[test]
fn what_the_draft_forbids_is_refused() {
    let encrypted = |config, id: &[u8], nonce_len| QuicLb::encrypted(config, id, nonce_len, &[0; 16]).err();
    assert_eq!(encrypted(7, &[1; 3], 8), Some(QuicLbError::Config));
    assert_eq!(encrypted(0, &[], 8), Some(QuicLbError::Length));
    assert_eq!(encrypted(0, &[1; 8], 3), Some(QuicLbError::Length));
    assert_eq!(encrypted(0, &[1; 8], 12), Some(QuicLbError::Length));
    assert_eq!(encrypted(0, &[1; 21], 4), Some(QuicLbError::Length));
    assert_eq!(encrypted(0, &[1], usize::MAX), Some(QuicLbError::Length));
    assert_eq!(encrypted(0, &[1; 2], 4), Some(QuicLbError::Guessable));
    assert_eq!(encrypted(0, &[1; 3], 4), None);
    assert_eq!(QuicLb::plain(0, &[1; 8], 6).err(), Some(QuicLbError::Guessable));
    assert!(QuicLb::plain(0, &[1; 8], 7).is_ok());
}

#[test]
fn configurations_differ_by_each_part() {
    let key = [7; 16];
    let make = |config, id: &[u8], nonce_len, key: &[u8; 16]| {
        QuicLb::encrypted(config, id, nonce_len, key).expect("lawful")
    };
    let one = make(1, &[1, 2], 8, &key);
    assert_eq!(one, make(1, &[1, 2], 8, &key));
    for other in [
        make(2, &[1, 2], 8, &key),
        make(1, &[1, 3], 8, &key),
        make(1, &[1, 2], 9, &key),
        make(1, &[1, 2], 8, &[8; 16]),
        make(1, &[1, 2, 0], 7, &key),
        QuicLb::plain(1, &[1, 2], 8).expect("lawful"),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn foreign_ids_are_not_ours() {
    let lb = QuicLb::plain(2, &[0xaa, 0xbb], 8).unwrap();
    let cid = lb.encode(&[0; 8]).unwrap();
    assert_eq!(lb.encode(&[0; 7]), None);
    assert_eq!(lb.prefix(), Cid::new(&[2 << 5 | 10, 0xaa, 0xbb]));
    assert_eq!(lb.decode(&cid.as_slice()[..10]), None, "shorter");
    let mut other = cid.as_slice().to_vec();
    other[0] ^= 0x20;
    assert_eq!(lb.decode(&other), None, "another configuration");
    assert_eq!(lb.decode(&[0; 255]), None);
    let cids = QuicLbCids::new(lb, ResetKey::new(b"key"));
    assert_eq!(cids.reset_token(&cid), ResetKey::new(b"key").token(cid.as_slice()));
}
