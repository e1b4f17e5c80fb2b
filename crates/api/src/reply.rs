//! Answers to lists, put together from parts that were encoded before.

use std::sync::{Arc, OnceLock};

use buffa::Message;
use buffa::bytes::{BufMut as _, Bytes, BytesMut};
use connectrpc::{CodecFormat, ConnectError, Encodable};
use serde::Serialize;

use crate::wire;

/// A message of a list, encoded at most once for each encoding that callers ask for.
#[derive(Debug, Clone)]
pub struct Part<T>(Arc<Encodings<T>>);

#[derive(Debug)]
struct Encodings<T> {
    message: T,
    proto: OnceLock<Bytes>,
    json: OnceLock<Result<Bytes, String>>,
}

impl<T: Message + Serialize> Part<T> {
    /// Takes a message, and encodes it when somebody asks for it.
    pub fn new(message: T) -> Self {
        Self(Arc::new(Encodings {
            message,
            proto: OnceLock::new(),
            json: OnceLock::new(),
        }))
    }

    /// The message.
    pub fn message(&self) -> &T {
        &self.0.message
    }

    fn proto(&self) -> &Bytes {
        self.0
            .proto
            .get_or_init(|| self.0.message.encode_to_bytes())
    }

    fn json(&self) -> Result<&Bytes, ConnectError> {
        let encode = || {
            serde_json::to_vec(&self.0.message)
                .map(Bytes::from)
                .map_err(|error| error.to_string())
        };
        self.0.json.get_or_init(encode).as_ref().map_err(|error| {
            ConnectError::internal(format!("an entry of the list has no JSON: {error}"))
        })
    }
}

/// An answer that is one list, its field 1.
pub trait List: Message + Serialize {
    /// What the list holds.
    type Item: Message + Serialize;
    /// The name of the field in JSON.
    const FIELD: &str;
}

impl List for wire::ListNodesResponse {
    type Item = wire::NodeInfo;
    const FIELD: &str = "nodes";
}

impl List for wire::ListInstancesResponse {
    type Item = wire::InstanceInfo;
    const FIELD: &str = "instances";
}

/// An answer: a message, or the parts of one.
#[derive(Debug, Clone)]
pub enum Reply<M: List> {
    /// A message.
    Message(M),
    /// The parts of the list, in order.
    Parts(Vec<Part<M::Item>>),
}

impl<M: List> From<M> for Reply<M> {
    fn from(message: M) -> Self {
        Self::Message(message)
    }
}

/// The tag of field 1 with a length: `1 << 3 | 2`.
const FIELD_1: u8 = 0x0a;

impl<M: List> Encodable<M> for Reply<M> {
    fn encode(&self, codec: CodecFormat) -> Result<Bytes, ConnectError> {
        match (self, codec) {
            (Self::Message(message), codec) => Encodable::<M>::encode(message, codec),
            (Self::Parts(parts), CodecFormat::Proto) => Ok(join_proto(parts)),
            (Self::Parts(parts), CodecFormat::Json) => join_json(M::FIELD, parts),
            (Self::Parts(_), other) => Err(ConnectError::unimplemented(format!(
                "lists are not encoded as {other}"
            ))),
        }
    }
}

fn join_proto<T: Message + Serialize>(parts: &[Part<T>]) -> Bytes {
    let size = parts.iter().map(|part| part.proto().len() + 6).sum();
    let mut joined = BytesMut::with_capacity(size);
    for part in parts {
        let bytes = part.proto();
        joined.put_u8(FIELD_1);
        buffa::encoding::encode_varint(bytes.len() as u64, &mut joined);
        joined.put_slice(bytes);
    }
    joined.freeze()
}

fn join_json<T: Message + Serialize>(
    field: &str,
    parts: &[Part<T>],
) -> Result<Bytes, ConnectError> {
    if parts.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let mut size = field.len() + 8;
    for part in parts {
        size += part.json()?.len() + 1;
    }
    let mut joined = BytesMut::with_capacity(size);
    joined.put_slice(b"{\"");
    joined.put_slice(field.as_bytes());
    joined.put_slice(b"\":[");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            joined.put_u8(b',');
        }
        joined.put_slice(part.json()?);
    }
    joined.put_slice(b"]}");
    Ok(joined.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, gpus: usize) -> wire::NodeInfo {
        wire::NodeInfo {
            node_id: id.to_owned(),
            gpus: (0..gpus)
                .map(|index| wire::GPUInfo {
                    index: i32::try_from(index).expect("few"),
                    memory_total: 80 << 30,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn parts_encode_to_the_bytes_of_the_whole_message() {
        for nodes in [
            vec![],
            vec![node("a", 0)],
            vec![node("", 0), node("b\"\n", 1), node("c", 16)],
        ] {
            let parts = Reply::<wire::ListNodesResponse>::Parts(
                nodes.iter().cloned().map(Part::new).collect(),
            );
            let whole = Reply::Message(wire::ListNodesResponse { nodes });
            for codec in [CodecFormat::Proto, CodecFormat::Json] {
                assert_eq!(
                    parts.encode(codec).expect("encodes"),
                    whole.encode(codec).expect("encodes"),
                    "{codec}"
                );
            }
        }
    }
}
