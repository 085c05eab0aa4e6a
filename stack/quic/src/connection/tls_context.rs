//! The connection as TLS sees it: where its messages come from and go to, and what it brings forth (RFC 9001 §4.1).

use std::any::Any;
use std::task::Waker;

use bytes::Bytes;
use s2n_quic_core::application::ServerName;
use s2n_quic_core::crypto::tls::{ApplicationParameters, Context, NamedGroup, TlsSession};

use super::handshake::{Level, ZeroRttKeys};
use crate::crypto::CryptoStream;
use crate::error::TransportError;
use crate::tls::{
    self, HandshakeHeaderKey, HandshakeKey, OneRttHeaderKey, OneRttKey, ZeroRttHeaderKey, ZeroRttKey,
};

/// CRYPTO data of one space handed to TLS at a time.
const TLS_CHUNK: usize = 16 * 1024;

type Outcome = Result<(), TransportError>;

/// What TLS brought forth in one go.
#[derive(Default)]
pub(super) struct Yield {
    pub(super) zero_rtt: Option<(ZeroRttKeys, Vec<u8>)>,
    pub(super) one_rtt: Option<(OneRttKey, OneRttHeaderKey, Vec<u8>)>,
    pub(super) alpn: Option<Bytes>,
    pub(super) complete: bool,
    pub(super) new_keys: bool,
}

/// The connection as TLS sees it.
pub(super) struct TlsContext<'a> {
    pub(super) initial: Option<&'a mut Level>,
    pub(super) handshake: &'a mut Option<Level>,
    pub(super) app: &'a mut Option<Box<CryptoStream>>,
    pub(super) has_app_keys: bool,
    /// A ClientHello read before.
    pub(super) hello: Option<Bytes>,
    pub(super) result: Yield,
}

impl Context<tls::Session> for TlsContext<'_> {
    fn on_client_application_params(&mut self, _: ApplicationParameters<'_>, _: &mut Vec<u8>) -> Outcome {
        Ok(())
    }

    fn on_handshake_keys(&mut self, key: HandshakeKey, header_key: HandshakeHeaderKey) -> Outcome {
        *self.handshake = Some(Level::new(key, header_key));
        self.result.new_keys = true;
        Ok(())
    }

    fn on_zero_rtt_keys(
        &mut self,
        packet: ZeroRttKey,
        header: ZeroRttHeaderKey,
        parameters: ApplicationParameters<'_>,
    ) -> Outcome {
        let keys = ZeroRttKeys { packet, header };
        self.result.zero_rtt = Some((keys, parameters.transport_parameters.to_vec()));
        self.result.new_keys = true;
        Ok(())
    }

    fn on_one_rtt_keys(
        &mut self,
        key: OneRttKey,
        header_key: OneRttHeaderKey,
        parameters: ApplicationParameters<'_>,
    ) -> Outcome {
        self.result.one_rtt = Some((key, header_key, parameters.transport_parameters.to_vec()));
        self.has_app_keys = true;
        self.result.new_keys = true;
        Ok(())
    }

    fn on_server_name(&mut self, _: ServerName) -> Outcome {
        Ok(())
    }

    fn on_application_protocol(&mut self, protocol: Bytes) -> Outcome {
        self.result.alpn = Some(protocol);
        Ok(())
    }

    fn on_key_exchange_group(&mut self, _: NamedGroup) -> Outcome {
        Ok(())
    }

    fn on_handshake_complete(&mut self) -> Outcome {
        self.result.complete = true;
        Ok(())
    }

    fn on_tls_context(&mut self, _: Box<dyn Any + Send>) {}

    fn on_tls_exporter_ready(&mut self, _: &impl TlsSession) -> Outcome {
        Ok(())
    }

    fn on_tls_handshake_failed(
        &mut self,
        _: &impl TlsSession,
        _: Box<dyn std::error::Error + Send + Sync + 'static>,
    ) -> Outcome {
        Ok(())
    }

    fn receive_initial(&mut self, max_len: Option<usize>) -> Option<Bytes> {
        let initial = self.initial.as_mut()?;
        self.hello.take().or_else(|| initial.crypto.read(Some(max_len.unwrap_or(TLS_CHUNK))))
    }

    fn receive_handshake(&mut self, max_len: Option<usize>) -> Option<Bytes> {
        self.handshake.as_mut()?.crypto.read(Some(max_len.unwrap_or(TLS_CHUNK)))
    }

    fn receive_application(&mut self, max_len: Option<usize>) -> Option<Bytes> {
        self.app.as_mut()?.read(Some(max_len.unwrap_or(TLS_CHUNK)))
    }

    fn can_send_initial(&self) -> bool {
        self.initial.is_some()
    }

    fn send_initial(&mut self, transmission: Bytes) {
        if let Some(level) = &mut self.initial {
            level.crypto.send(&transmission);
        }
    }

    fn can_send_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    fn send_handshake(&mut self, transmission: Bytes) {
        if let Some(level) = self.handshake {
            level.crypto.send(&transmission);
        }
    }

    fn can_send_application(&self) -> bool {
        self.has_app_keys
    }

    fn send_application(&mut self, transmission: Bytes) {
        self.app.get_or_insert_default().send(&transmission);
    }

    fn waker(&self) -> &Waker {
        Waker::noop()
    }
}
