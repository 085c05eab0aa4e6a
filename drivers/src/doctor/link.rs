//! What rtnetlink alone tells of an interface: its peer, and the XDP programs on it.

use std::pin::pin;

use futures_util::StreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

use crate::{DriverError, Nic};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it is one end of a pair.
    pub(super) peer: Option<Peer>,
    /// Ids of the programs attached, with where.
    pub(super) programs: Vec<(u32, &'static str)>,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// In this namespace.
    Here(Box<Nic>),
    /// In another.
    Elsewhere,
}

impl Link {
    pub(super) async fn ask(nic: &Nic) -> Result<Self, DriverError> {
        let fail = |source| DriverError::Io { what: "netlink", source };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(fail)?;
        let driving = tokio::spawn(connection);
        let told = {
            let mut links = pin!(handle.link().get().match_index(nic.index).execute());
            links.next().await
        };
        driving.abort();
        let message = match told {
            Some(Ok(message)) => message,
            // Deleted since it was found.
            Some(Err(_)) | None => return Err(DriverError::NoInterface { name: nic.name.clone() }),
        };
        let (mut link, mut lower, mut elsewhere) = (Self::default(), None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => lower = Some(*index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::Xdp(told) => link.programs = told.iter().filter_map(program).collect(),
                _ => {}
            }
        }
        if nic.driver.as_deref() == Some("veth") {
            link.peer = match lower {
                Some(index) if !elsewhere => Nic::by_index(index).ok().map(|nic| Peer::Here(Box::new(nic))),
                _ => Some(Peer::Elsewhere),
            };
        }
        Ok(link)
    }
}

fn program(told: &LinkXdp) -> Option<(u32, &'static str)> {
    match told {
        LinkXdp::DrvProgId(id) => Some((*id, "driver mode")),
        LinkXdp::SkbProgId(id) => Some((*id, "SKB mode")),
        LinkXdp::HwProgId(id) => Some((*id, "hardware")),
        _ => None,
    }
}
