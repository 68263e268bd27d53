//! The protocol's messages, made from `proto/`, and an answer that was encoded before.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use uuid::Uuid;

pub(crate) use shared::{gossip, server_features, streams};

/// The package `event_store.client` and those inside of it, which name its messages relative to themselves.
#[allow(missing_docs, clippy::all)]
pub(crate) mod shared {
    tonic::include_proto!("event_store.client");

    pub(crate) mod gossip {
        tonic::include_proto!("event_store.client.gossip");
    }
    pub(crate) mod server_features {
        tonic::include_proto!("event_store.client.server_features");
    }
    pub(crate) mod streams {
        tonic::include_proto!("event_store.client.streams");
    }
}

/// A `ReadResp` in its encoded form. Sending it is one copy: this is what makes catching up from the double fast.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EncodedReadResp(pub(crate) Bytes);

impl EncodedReadResp {
    pub(crate) fn of(content: streams::read_resp::Content) -> EncodedReadResp {
        let message = streams::ReadResp { content: Some(content) };
        EncodedReadResp(prost::Message::encode_to_vec(&message).into())
    }
}

impl prost::Message for EncodedReadResp {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        // Only ever sent.
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// The id in either of its two forms; `None` when it is neither or cannot be parsed.
pub(crate) fn uuid_from_wire(id: &shared::Uuid) -> Option<Uuid> {
    match id.value.as_ref()? {
        shared::uuid::Value::Structured(halves) => Some(Uuid::from_u64_pair(
            halves.most_significant_bits as u64,
            halves.least_significant_bits as u64,
        )),
        shared::uuid::Value::String(text) => Uuid::parse_str(text).ok(),
    }
}

pub(crate) fn uuid_as_string(id: Uuid) -> shared::Uuid {
    shared::Uuid {
        value: Some(shared::uuid::Value::String(id.to_string())),
    }
}

pub(crate) fn uuid_as_halves(id: Uuid) -> shared::Uuid {
    let (most, least) = id.as_u64_pair();
    shared::Uuid {
        value: Some(shared::uuid::Value::Structured(shared::uuid::Structured {
            most_significant_bits: most as i64,
            least_significant_bits: least as i64,
        })),
    }
}
