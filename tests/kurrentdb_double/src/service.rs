//! The gRPC services of one node at one entrance.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::append::{Append, Outcome, require_leader};
use crate::cluster::{Shared, Standing};
use crate::entrance::EntranceInner;
use crate::faults::Loss;
use crate::log::{Appended, ExpectedRevision, NewEvent};
use crate::read::{Answers, read};
use crate::tls::{Peer, Stream as ServedStream};
use crate::wire::gossip::gossip_server::{Gossip, GossipServer};
use crate::wire::gossip::member_info::VNodeState;
use crate::wire::gossip::{ClusterInfo, EndPoint, MemberInfo};
use crate::wire::server_features::server_features_server::{ServerFeatures, ServerFeaturesServer};
use crate::wire::server_features::{SupportedMethod, SupportedMethods};
use crate::wire::shared::{AllStreamPosition, Empty};
use crate::wire::streams::streams_server::{Streams, StreamsServer};
use crate::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, ProposedMessage, ReadReq, RpcStatus, append_req,
    append_resp, batch_append_req, batch_append_resp,
};
use crate::wire::{shared as wire, uuid_as_halves, uuid_from_wire};

/// The largest message that is taken: an event of 16 MiB, which is the server's limit, and its frame.
const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;

/// What the double says it is.
const VERSION: &str = "24.10.0";

/// One node, as it is met by an entrance.
#[derive(Clone)]
pub(crate) struct NodeService {
    shared: Arc<Shared>,
    entrance: Arc<EntranceInner>,
    node: usize,
}

impl NodeService {
    pub(crate) fn new(shared: Arc<Shared>, entrance: Arc<EntranceInner>, node: usize) -> NodeService {
        NodeService { shared, entrance, node }
    }

    /// Serves connections until there are no more.
    pub(crate) async fn serve(self, connections: ReceiverStream<std::io::Result<ServedStream>>) {
        let streams = StreamsServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        // Its own end is all that it can fail with: errors of connections stay with them.
        let _ = Server::builder()
            .max_concurrent_streams(self.shared.options.max_calls_per_connection)
            .add_service(streams)
            .add_service(GossipServer::new(self.clone()))
            .add_service(ServerFeaturesServer::new(self))
            .serve_with_incoming(connections)
            .await;
    }

    /// Who may call: everyone, or the one user, by password or certificate. `anonymous`: whether nobody is somebody.
    fn authorize<T>(&self, request: &Request<T>, anonymous: bool) -> Result<(), Status> {
        let Some((user, password)) = &self.shared.options.security.user else {
            return Ok(());
        };
        let changed = self.shared.lock().password.clone();
        let password = changed.as_ref().unwrap_or(password);
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        match request.metadata().get("authorization") {
            Some(given) if given.as_bytes() == expected.as_bytes() => Ok(()),
            Some(_) => Err(Status::unauthenticated("Bad credentials")),
            None if anonymous => Ok(()),
            None if request
                .extensions()
                .get::<Peer>()
                .is_some_and(|peer| peer.has_certificate) =>
            {
                Ok(())
            }
            None => Err(Status::permission_denied("Access Denied")),
        }
    }

    fn too_large(&self) -> Status {
        let most = self.shared.options.max_append_bytes;
        let mut status = Status::new(
            Code::InvalidArgument,
            format!("Maximum Append Size of {most} Exceeded."),
        );
        let fields = [
            ("exception", "maximum-append-size-exceeded".to_owned()),
            ("maximum-append-size", most.to_string()),
        ];
        for (name, value) in fields {
            if let Ok(value) = value.parse() {
                status.metadata_mut().insert(name, value);
            }
        }
        status
    }

    fn incarnation(&self) -> u64 {
        self.shared.lock().nodes[self.node].incarnation
    }

    /// Hands an append on and waits as long as its answer is to wait.
    async fn append_and_wait(&self, append: Append, peer: Option<Peer>) -> Result<Appended, Status> {
        self.shared.counters[self.node].appends.fetch_add(1, Ordering::Relaxed);
        let Outcome { result, delay, loss } = self.shared.append(append).await;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match loss {
            None => result,
            Some(loss) => {
                if let (Loss::Reset, Some(peer)) = (loss, peer) {
                    peer.handle.reset();
                }
                // Until the client gives up.
                std::future::pending().await
            }
        }
    }
}

#[tonic::async_trait]
impl Streams for NodeService {
    type ReadStream = Answers;
    type BatchAppendStream = std::pin::Pin<Box<dyn Stream<Item = Result<BatchAppendResp, Status>> + Send>>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Answers>, Status> {
        self.shared.counters[self.node].reads.fetch_add(1, Ordering::Relaxed);
        self.authorize(&request, false)?;
        let requires_leader = requires_leader(request.metadata());
        let delay = {
            let state = self.shared.lock();
            require_leader(&state, self.node, requires_leader, &self.entrance)?;
            state.faults.reads.draw()
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let options = request
            .into_inner()
            .options
            .ok_or_else(|| Status::invalid_argument("no options"))?;
        Ok(Response::new(read(&self.shared, self.node, options)?))
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        self.authorize(&request, false)?;
        let incarnation = self.incarnation();
        let requires_leader = requires_leader(request.metadata());
        let peer = request.extensions().get::<Peer>().cloned();
        let mut messages = request.into_inner();
        let options = match messages.message().await?.and_then(|message| message.content) {
            Some(append_req::Content::Options(options)) => options,
            _ => return Err(Status::invalid_argument("an append starts with its options")),
        };
        let stream = stream_name(options.stream_identifier)?;
        let expected = match options.expected_stream_revision {
            Some(append_req::options::ExpectedStreamRevision::Revision(revision)) => ExpectedRevision::Exact(revision),
            Some(append_req::options::ExpectedStreamRevision::NoStream(_)) => ExpectedRevision::NoStream,
            Some(append_req::options::ExpectedStreamRevision::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(append_req::options::ExpectedStreamRevision::Any(_)) => ExpectedRevision::Any,
            None => return Err(Status::invalid_argument("no expected revision")),
        };
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(message) = messages.message().await? {
            let Some(append_req::Content::ProposedMessage(proposed)) = message.content else {
                return Err(Status::invalid_argument("options twice"));
            };
            let event = event(proposed)?;
            bytes += size(&event);
            if bytes > self.shared.options.max_append_bytes {
                return Err(self.too_large());
            }
            events.push(event);
        }
        let entrance = Arc::clone(&self.entrance);
        let append = Append {
            node: self.node,
            incarnation,
            entrance,
            requires_leader,
            stream,
            expected,
            events,
        };
        let result = match self.append_and_wait(append, peer).await? {
            Appended::Committed { revision, position, .. } => append_resp::Result::Success(success(revision, position)),
            Appended::WrongExpectedRevision { current } => {
                append_resp::Result::WrongExpectedVersion(wrong_expected_version(expected, current))
            }
        };
        Ok(Response::new(AppendResp { result: Some(result) }))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        self.authorize(&request, false)?;
        let incarnation = self.incarnation();
        let requires_leader = requires_leader(request.metadata());
        let peer = request.extensions().get::<Peer>().cloned();
        let service = self.clone();
        let messages = request.into_inner();
        let answers = stream::unfold(Some(messages), move |messages| {
            let (service, peer) = (service.clone(), peer.clone());
            async move {
                let mut messages = messages?;
                match service
                    .next_batch_append(&mut messages, incarnation, requires_leader, peer)
                    .await
                {
                    Ok(Some(answer)) => Some((Ok(answer), Some(messages))),
                    Ok(None) => None,
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

impl NodeService {
    /// Reads one batch, which may come in pieces, and answers it.
    async fn next_batch_append(
        &self,
        messages: &mut Streaming<BatchAppendReq>,
        incarnation: u64,
        requires_leader: bool,
        peer: Option<Peer>,
    ) -> Result<Option<BatchAppendResp>, Status> {
        let Some(mut batch) = messages.message().await? else {
            return Ok(None);
        };
        while !batch.is_final {
            let Some(more) = messages.message().await? else {
                return Ok(None);
            };
            if more.correlation_id != batch.correlation_id {
                return Err(Status::unimplemented(
                    "the double takes the pieces of one batch behind each other",
                ));
            }
            batch.is_final = more.is_final;
            batch.proposed_messages.extend(more.proposed_messages);
            if batch
                .proposed_messages
                .iter()
                .map(|proposed| proposed.data.len())
                .sum::<usize>()
                > self.shared.options.max_append_bytes
            {
                return Err(self.too_large());
            }
        }
        let options = batch.options.ok_or_else(|| Status::invalid_argument("no options"))?;
        let stream_identifier = options.stream_identifier.clone();
        let stream = stream_name(options.stream_identifier)?;
        use batch_append_req::options::ExpectedStreamPosition as Asked;
        use batch_append_resp::ExpectedStreamPosition as Echoed;
        let (expected, echoed) = match options.expected_stream_position {
            Some(Asked::StreamPosition(revision)) => {
                (ExpectedRevision::Exact(revision), Echoed::StreamPosition(revision))
            }
            Some(Asked::NoStream(_)) => (ExpectedRevision::NoStream, Echoed::NoStream(Empty {})),
            Some(Asked::StreamExists(_)) => (ExpectedRevision::StreamExists, Echoed::StreamExists(Empty {})),
            Some(Asked::Any(_)) => (ExpectedRevision::Any, Echoed::Any(Empty {})),
            None => return Err(Status::invalid_argument("no expected revision")),
        };
        let events = batch
            .proposed_messages
            .into_iter()
            .map(event)
            .collect::<Result<Vec<_>, _>>()?;
        let entrance = Arc::clone(&self.entrance);
        let append = Append {
            node: self.node,
            incarnation,
            entrance,
            requires_leader,
            stream,
            expected,
            events,
        };
        let result = if append.events.iter().map(size).sum::<usize>() > self.shared.options.max_append_bytes {
            batch_append_resp::Result::Error(error(&self.too_large(), None))
        } else {
            match self.append_and_wait(append, peer).await {
                Ok(Appended::Committed { revision, position, .. }) => {
                    batch_append_resp::Result::Success(success(revision, position))
                }
                Ok(Appended::WrongExpectedRevision { current }) => {
                    let status = Status::new(Code::Unknown, "WrongExpectedVersion");
                    batch_append_resp::Result::Error(error(&status, Some(details(expected, current))))
                }
                Err(status) => batch_append_resp::Result::Error(error(&status, None)),
            }
        };
        Ok(Some(BatchAppendResp {
            correlation_id: batch.correlation_id,
            result: Some(result),
            stream_identifier,
            expected_stream_position: Some(echoed),
        }))
    }
}

#[tonic::async_trait]
impl Gossip for NodeService {
    async fn read(&self, request: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        self.shared.counters[self.node].gossip.fetch_add(1, Ordering::Relaxed);
        self.authorize(&request, true)?;
        let state = self.shared.lock();
        let members = state.nodes.iter().enumerate().map(|(node, of_node)| {
            let standing = self.shared.standing(&state, node);
            let in_office = match standing {
                Standing::Leader => VNodeState::Leader,
                Standing::Follower => VNodeState::Follower,
                Standing::CatchingUp => VNodeState::CatchingUp,
                Standing::Unknown | Standing::Dead => VNodeState::Unknown,
            };
            let address = self.entrance.doors[node].address();
            MemberInfo {
                instance_id: Some(uuid_as_halves(of_node.id)),
                time_stamp: 0,
                state: in_office.into(),
                is_alive: standing != Standing::Dead,
                http_end_point: Some(EndPoint {
                    address: address.ip().to_string(),
                    port: address.port().into(),
                }),
            }
        });
        Ok(Response::new(ClusterInfo {
            members: members.collect(),
        }))
    }
}

#[tonic::async_trait]
impl ServerFeatures for NodeService {
    async fn get_supported_methods(&self, request: Request<Empty>) -> Result<Response<SupportedMethods>, Status> {
        self.shared.counters[self.node]
            .server_features
            .fetch_add(1, Ordering::Relaxed);
        self.authorize(&request, true)?;
        let methods = ["read", "append", "batchappend"].map(|method| SupportedMethod {
            method_name: method.to_owned(),
            service_name: "event_store.client.streams.streams".to_owned(),
            features: Vec::new(),
        });
        Ok(Response::new(SupportedMethods {
            methods: methods.to_vec(),
            event_store_server_version: VERSION.to_owned(),
        }))
    }
}

fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get("requires-leader")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

fn stream_name(identifier: Option<wire::StreamIdentifier>) -> Result<String, Status> {
    let name = identifier.map(|identifier| identifier.stream_name).unwrap_or_default();
    match String::from_utf8(name.into()) {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => Err(Status::invalid_argument("the stream's name is empty or not UTF-8")),
    }
}

fn event(mut proposed: ProposedMessage) -> Result<NewEvent, Status> {
    let id = proposed.id.as_ref().and_then(uuid_from_wire);
    let missing = |what: &str| Status::invalid_argument(format!("Required Metadata Property '{what}' is missing"));
    Ok(NewEvent {
        id: id.ok_or_else(|| Status::invalid_argument("the event has no id"))?,
        event_type: proposed.metadata.remove("type").ok_or_else(|| missing("type"))?,
        content_type: proposed
            .metadata
            .remove("content-type")
            .ok_or_else(|| missing("content-type"))?,
        // Of their own, so that the event does not keep the buffer that it came in.
        data: Bytes::copy_from_slice(&proposed.data),
        custom_metadata: Bytes::copy_from_slice(&proposed.custom_metadata),
    })
}

/// As the server counts it: UTF-16 for the type.
fn size(event: &NewEvent) -> usize {
    event.data.len() + event.custom_metadata.len() + 2 * event.event_type.len()
}

fn success(revision: Option<u64>, position: Option<u64>) -> append_resp::Success {
    use append_resp::success::{CurrentRevisionOption, PositionOption};
    append_resp::Success {
        current_revision_option: Some(match revision {
            Some(revision) => CurrentRevisionOption::CurrentRevision(revision),
            None => CurrentRevisionOption::NoStream(Empty {}),
        }),
        position_option: Some(match position {
            Some(position) => PositionOption::Position(AllStreamPosition {
                commit_position: position,
                prepare_position: position,
            }),
            None => PositionOption::NoPosition(Empty {}),
        }),
    }
}

fn wrong_expected_version(expected: ExpectedRevision, current: Option<u64>) -> append_resp::WrongExpectedVersion {
    use append_resp::wrong_expected_version::{CurrentRevisionOption, ExpectedRevisionOption};
    append_resp::WrongExpectedVersion {
        current_revision_option: Some(match current {
            Some(revision) => CurrentRevisionOption::CurrentRevision(revision),
            None => CurrentRevisionOption::CurrentNoStream(Empty {}),
        }),
        expected_revision_option: Some(match expected {
            ExpectedRevision::Exact(revision) => ExpectedRevisionOption::ExpectedRevision(revision),
            ExpectedRevision::NoStream => ExpectedRevisionOption::ExpectedNoStream(Empty {}),
            ExpectedRevision::StreamExists => ExpectedRevisionOption::ExpectedStreamExists(Empty {}),
            ExpectedRevision::Any => ExpectedRevisionOption::ExpectedAny(Empty {}),
        }),
    }
}

fn error(status: &Status, details: Option<prost_types::Any>) -> RpcStatus {
    RpcStatus {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details,
    }
}

fn details(expected: ExpectedRevision, current: Option<u64>) -> prost_types::Any {
    use wire::wrong_expected_version::{CurrentStreamRevisionOption, ExpectedStreamPositionOption};
    let details = wire::WrongExpectedVersion {
        current_stream_revision_option: Some(match current {
            Some(revision) => CurrentStreamRevisionOption::CurrentStreamRevision(revision),
            None => CurrentStreamRevisionOption::CurrentNoStream(Empty {}),
        }),
        expected_stream_position_option: Some(match expected {
            ExpectedRevision::Exact(revision) => ExpectedStreamPositionOption::ExpectedStreamPosition(revision),
            ExpectedRevision::NoStream => ExpectedStreamPositionOption::ExpectedNoStream(Empty {}),
            ExpectedRevision::StreamExists => ExpectedStreamPositionOption::ExpectedStreamExists(Empty {}),
            ExpectedRevision::Any => ExpectedStreamPositionOption::ExpectedAny(Empty {}),
        }),
    };
    prost_types::Any {
        type_url: "type.googleapis.com/event_store.client.WrongExpectedVersion".to_owned(),
        value: prost::Message::encode_to_vec(&details),
    }
}
