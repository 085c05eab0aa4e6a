//! Certificate chains found good a short while ago.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// How long a chain counts as good. One that expires meanwhile is accepted for as long again at most.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Chains remembered; beyond, the one first found good is forgotten.
const REMEMBERED: usize = 32;

/// Bytes of the longest chain remembered.
const MAX_CHAIN_LEN: usize = 16 * 1024;

/// Judges servers' chains as [`WebPkiServerVerifier`] does, but the same chain for the same name only once in
/// a minute: a client that makes many connections to one server spends a sixth of a handshake on that. Whether the
/// server holds the certificate's key is asked in each handshake (RFC 8446 §4.4.3).
///
/// [`ClientConfig::new`](crate::tls::ClientConfig::new) uses it; a rustls configuration of the application's own may, too.
#[derive(Debug)]
pub struct RememberingVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    /// The oldest first.
    good: Mutex<Vec<Good>>,
}

#[derive(Debug)]
struct Good {
    name: ServerName<'static>,
    /// The server's own certificate first.
    chain: Box<[CertificateDer<'static>]>,
    since: UnixTime,
}

impl Good {
    fn is_of(&self, name: &ServerName<'_>, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
        self.name == *name
            && self.chain.split_first().is_some_and(|(first, rest)| first == own && rest == others)
    }

    /// A clock that was set back makes nothing good.
    fn is_fresh(&self, now: UnixTime) -> bool {
        now.as_secs().checked_sub(self.since.as_secs()).is_some_and(|age| age < GOOD_FOR.as_secs())
    }
}

impl RememberingVerifier {
    /// Judges chains by `verifier`, and remembers its good ones.
    pub fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self { verifier, good: Mutex::default() }
    }

    fn remembers(
        &self,
        name: &ServerName<'_>,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.retain(|good| good.is_fresh(now));
        good.iter().any(|good| good.is_of(name, own, others))
    }

    fn remember(
        &self,
        name: &ServerName<'_>,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        since: UnixTime,
    ) {
        let chain = || std::iter::once(own).chain(others);
        if chain().map(|certificate| certificate.len()).sum::<usize>() > MAX_CHAIN_LEN {
            return;
        }
        let chain = chain().map(|certificate| certificate.clone().into_owned()).collect();
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            good.remove(0);
        }
        good.push(Good { name: name.to_owned(), chain, since });
    }
}

impl ServerCertVerifier for RememberingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.remembers(server_name, end_entity, intermediates, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.remember(server_name, end_entity, intermediates, now);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.verifier.root_hint_subjects()
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::ServerName;

    use super::*;
    use crate::tls::suite;

    /// A certificate for `localhost`, good for a day from now, and a verifier that trusts it.
    fn world() -> (CertificateDer<'static>, RememberingVerifier, UnixTime) {
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        let (begin, end) = (rcgen::date_time_ymd(2030, 1, 1), rcgen::date_time_ymd(2030, 1, 2));
        (params.not_before, params.not_after) = (begin, end);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), suite::default_provider())
            .build()
            .unwrap();
        let last_minute = UnixTime::since_unix_epoch(Duration::from_secs(end.unix_timestamp() as u64 - 10));
        (certificate.der().clone(), RememberingVerifier::new(verifier), last_minute)
    }

    fn later(time: UnixTime, seconds: i64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs().saturating_add_signed(seconds)))
    }

    fn localhost() -> ServerName<'static> {
        ServerName::try_from("localhost").unwrap()
    }

    #[test]
    fn a_good_chain_is_judged_once_a_minute() {
        let (certificate, verifier, begin) = world();
        let judge = |seconds| {
            verifier.verify_server_cert(&certificate, &[], &localhost(), &[], later(begin, seconds)).is_ok()
        };
        assert!(judge(0), "it has ten seconds to live");
        assert!(judge(30), "expired, but found good half a minute ago");
        assert!(!judge(60), "judged anew");
        assert!(!judge(30), "and forgotten");
    }

    #[test]
    fn another_name_chain_or_time_is_judged_of_its_own() {
        let (certificate, verifier, begin) = world();
        let (other, ..) = world();
        let judge = |certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>], name: &str, seconds| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(certificate, others, &name, &[], later(begin, seconds)).is_ok()
        };
        assert!(judge(&certificate, &[], "localhost", 0));
        assert!(!judge(&certificate, &[], "example.org", 0));
        assert!(!judge(&other, &[], "localhost", 0));
        assert!(
            !judge(&certificate, std::slice::from_ref(&other), "localhost", 30),
            "another chain, and expired"
        );
        assert!(!judge(&certificate, &[], "localhost", -86_400), "a clock that was set back");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (certificate, verifier, begin) = world();
        for n in 0..2 * REMEMBERED as u64 {
            let name = ServerName::try_from(format!("host-{n}.example")).unwrap();
            verifier.remember(&name, &certificate, &[], begin);
        }
        let long = CertificateDer::from(vec![0; MAX_CHAIN_LEN + 1]);
        verifier.remember(&localhost(), &long, &[], begin);
        let good = verifier.good.lock().unwrap();
        assert_eq!(good.len(), REMEMBERED);
        assert!(good.iter().all(|good| good.chain[0] == certificate));
    }
}
