//! Reading a request's body: bounded in size and time.

use actix_web::web::{Bytes, Payload};
use std::time::Duration;

/// The largest body that an endpoint takes, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBody {
    /// It is larger than [`MAX_BODY_BYTES`].
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// The connection broke off.
    BrokenOff,
}

/// Reads the whole body.
pub async fn read(body: Payload, timeout: Duration) -> Result<Bytes, NoBody> {
    read_up_to(MAX_BODY_BYTES, body, timeout).await
}

/// Reads the whole body, of another size at the most.
pub async fn read_up_to(most_bytes: usize, body: Payload, timeout: Duration) -> Result<Bytes, NoBody> {
    // The timer is only set when the body is not there yet.
    match tokio::time::timeout(timeout, body.to_bytes_limited(most_bytes)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(_))) => Err(NoBody::BrokenOff),
        Ok(Err(_)) => Err(NoBody::TooLarge),
        Err(_) => Err(NoBody::TooSlow),
    }
}
