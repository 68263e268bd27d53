//! What the double can do at most, so that a bench of Grantlog against it says what it measures.
//!
//! ```sh
//! cargo run --release -p grantlog-kurrentdb-double --example double_speed
//! ```
//!
//! It starts one node in this process, fills it by the official client, and follows `$all` with a filter: once with
//! a reader that counts messages and decodes nothing, which is the double's own limit on this machine, and once with
//! the official client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::{Buf, Bytes};
use eventstore::{AppendToStreamOptions, Client, EventData, StreamState, SubscribeToAllOptions, SubscriptionFilter};
use grantlog_kurrentdb_double::{Cluster, Options};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use uuid::Uuid;

const EVENTS: usize = 400_000;
const EVENTS_IN_ONE_APPEND: usize = 100;
const APPENDS_AT_A_TIME: usize = 32;
/// What a `TokenIssued` takes.
const BODY_BYTES: usize = 420;

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(Options::default())?;
    // Two threads serve, two ask.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let one = connect(&cluster, 1)?;
        let started = Instant::now();
        fill(&one, EVENTS, EVENTS_IN_ONE_APPEND).await?;
        report("appended, 100 to an append", EVENTS, started);

        let one_by_one = EVENTS / 20;
        let started = Instant::now();
        fill(&one, one_by_one, 1).await?;
        report("appended, one to an append", one_by_one, started);

        let events = EVENTS + one_by_one;
        let started = Instant::now();
        count_messages(&cluster, events).await?;
        report("followed, not decoded", events, started);

        let filter = SubscriptionFilter::on_stream_name().add_prefix("grantlog.").max(10_000);
        let options = SubscribeToAllOptions::default().filter(filter);
        let started = Instant::now();
        let mut subscription = one[0].subscribe_to_all(&options).await;
        for _ in 0..events {
            subscription.next().await?;
        }
        report("followed by the official client", events, started);

        let like_the_real_one = Cluster::start(Options {
            delayed_acknowledgements: true,
            ..Options::default()
        })?;
        println!("with delayed acknowledgements, as of a real server:");
        for (what, connections, in_one_append, events) in [
            ("appended, 100 to an append", 1, EVENTS_IN_ONE_APPEND, EVENTS / 4),
            ("appended, one to an append", 1, 1, EVENTS / 100),
            ("the same, a connection to a lane", APPENDS_AT_A_TIME, 1, EVENTS / 100),
        ] {
            let clients = connect(&like_the_real_one, connections)?;
            let started = Instant::now();
            fill(&clients, events, in_one_append).await?;
            report(what, events, started);
        }
        anyhow::Ok(())
    })
}

fn connect(cluster: &Cluster, connections: usize) -> anyhow::Result<Vec<Client>> {
    (0..connections)
        .map(|_| {
            let client = Client::new(cluster.connection_string().parse()?);
            client.map_err(|error| anyhow::anyhow!("{error}"))
        })
        .collect()
}

fn report(what: &str, events: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<33} {:>10.0} events/s", events as f64 / seconds);
}

async fn fill(clients: &[Client], events: usize, in_one_append: usize) -> anyhow::Result<()> {
    let appended = std::sync::Arc::new(AtomicU64::new(0));
    let lanes = (0..APPENDS_AT_A_TIME).map(|lane| {
        let client = clients[lane % clients.len()].clone();
        let (client, appended) = (client, std::sync::Arc::clone(&appended));
        tokio::spawn(async move {
            let options = AppendToStreamOptions::default().stream_state(StreamState::Any);
            while appended.fetch_add(in_one_append as u64, Ordering::Relaxed) < events as u64 {
                let of_one_append: Vec<_> = (0..in_one_append)
                    .map(|_| EventData::binary("happened", vec![b'x'; BODY_BYTES].into()).id(Uuid::new_v4()))
                    .collect();
                client
                    .append_to_stream(format!("grantlog.{lane}"), &options, of_one_append)
                    .await?;
            }
            anyhow::Ok(())
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await??;
    }
    Ok(())
}

async fn count_messages(cluster: &Cluster, messages: usize) -> anyhow::Result<()> {
    let address = cluster.main_entrance().addresses()[0];
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(2 * 1024 * 1024)
        .initial_connection_window_size(5 * 1024 * 1024)
        .connect()
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let path = "/event_store.client.streams.Streams/Read".parse()?;
    // ReadReq { options: { all: { start }, subscription: {}, filter: { stream_identifier: { prefix: "grantlog." },
    // max: 10000, checkpoint_interval_multiplier: 1 }, uuid_option: { string } } }
    let filter = [&[10, 11, 18, 9][..], b"grantlog.", &[24, 144, 78, 40, 1]].concat();
    let mut options = vec![18, 2, 18, 0, 50, 0, 58, filter.len() as u8];
    options.extend(filter);
    options.extend([74, 2, 18, 0]);
    let mut request = vec![10, options.len() as u8];
    request.extend(options);
    let mut answers = client
        .server_streaming(Request::new(Bytes::from(request)), path, Undecoded)
        .await?
        .into_inner();
    for _ in 0..messages {
        anyhow::ensure!(answers.message().await?.is_some(), "the subscription has ended");
    }
    Ok(())
}

#[derive(Default)]
struct Undecoded;

impl Codec for Undecoded {
    type Encode = Bytes;
    type Decode = usize;
    type Encoder = Undecoded;
    type Decoder = Undecoded;

    fn encoder(&mut self) -> Undecoded {
        Undecoded
    }

    fn decoder(&mut self) -> Undecoded {
        Undecoded
    }
}

impl Encoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, message);
        Ok(())
    }
}

impl Decoder for Undecoded {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let bytes = buffer.remaining();
        buffer.advance(bytes);
        Ok(Some(bytes))
    }
}
