//! Compiles the protocol in Rust alone: nobody needs protoc to build Grantlog.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["streams.proto", "gossip.proto", "server_features.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .extern_path(
            ".event_store.client.streams.EncodedReadResp",
            "crate::wire::EncodedReadResp",
        )
        .compile_fds(files)?;
    Ok(())
}
