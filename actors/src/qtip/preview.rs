//! What would become of a segment, without anything becoming of it: for explanations.

use wirepath_quic::NetPath;
use wirepath_trace::Nanos;
use wirepath_wire::{
    Tcp,
    tcp::{ACK, FIN, PSH, RST, SYN},
};

use super::{
    Flows, MIN_MSS, UNLIMITED_MSS,
    flow::{Flow, State},
    flows::{IGNORED_FLAGS, key, mss_of},
};

/// What a segment that is not dropped does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It brings a QUIC datagram.
    Delivers,
    /// Something else.
    Does(&'static str),
}

impl Flows {
    /// The end that [`on_segment`](Self::on_segment) would come to, but for its limits: on flows, and on answers a second.
    ///
    /// # Errors
    /// The name of the counter if it would be dropped.
    pub fn preview(
        &self,
        now: Nanos,
        path: &NetPath,
        tcp: &Tcp,
        options: &[u8],
        listening: bool,
    ) -> Result<Outlook, &'static str> {
        let mut shard = self.shard(path);
        let flow = shard.get(&key(path)).map(|flow| &*flow);
        let too_small = mss_of(options).unwrap_or(UNLIMITED_MSS) < MIN_MSS;
        match tcp.flags & !IGNORED_FLAGS & !PSH {
            SYN if listening && too_small => Err("qtip_mss_undersized_dropped"),
            SYN if listening && flow.is_none_or(|flow| !flow.client) => {
                Ok(Outlook::Does("answered with SYN/ACK; nothing is kept"))
            }
            SYN => Err("qtip_syn_unexpected_dropped"),
            flags if flags == SYN | ACK => {
                let answers = |flow: &&Flow| {
                    matches!(flow.state, State::SynSent(_))
                        && tcp.acknowledgement == flow.next.wrapping_add(1)
                };
                match flow.filter(answers) {
                    None => Err("qtip_syn_ack_unexpected_dropped"),
                    Some(_) if too_small => Err("qtip_mss_undersized_dropped"),
                    Some(_) => {
                        Ok(Outlook::Does("opens its flow, and lets the datagrams go that wait for it"))
                    }
                }
            }
            flags if flags & RST != 0 && flags & (SYN | FIN) == 0 => {
                let flow = flow.ok_or("qtip_reset_unmatched_dropped")?;
                let ends = Outlook::Does("ends its flow; a client's is opened anew by what is sent next");
                flow.believes_reset(tcp).then_some(ends).ok_or("qtip_reset_out_of_window_dropped")
            }
            flags if flags == FIN | ACK => {
                let open = flow.filter(|flow| flow.state == State::Open);
                let flow = open.ok_or("qtip_flow_unknown_dropped")?;
                let ends = Outlook::Does("ends its flow, and is answered with RST");
                flow.is_near(tcp.sequence).then_some(ends).ok_or("qtip_sequence_out_of_window_dropped")
            }
            ACK => self.preview_data(now, path, tcp, flow, listening),
            _ => Err("tcp_flags_invalid_dropped"),
        }
    }

    fn preview_data(
        &self,
        now: Nanos,
        path: &NetPath,
        tcp: &Tcp,
        flow: Option<&Flow>,
        listening: bool,
    ) -> Result<Outlook, &'static str> {
        let begins = || self.has_cookie(now, path, tcp);
        match flow {
            Some(flow) if flow.renewed && begins() => {}
            Some(flow) if flow.state != State::Open => return Err("qtip_state_mismatched_dropped"),
            Some(flow) if !flow.is_near(tcp.sequence) => return Err("qtip_sequence_out_of_window_dropped"),
            Some(_) => {}
            None if listening && begins() => {}
            None => return Err("qtip_flow_unknown_dropped"),
        }
        match tcp.payload.is_empty() {
            true => Ok(Outlook::Does("noted by its flow")),
            false => Ok(Outlook::Delivers),
        }
    }
}
