//! Grantlog: an OAuth 2.0 authorization server for services whose source of truth is an event log.

pub mod config;
pub mod event_store;
pub mod metrics;
pub mod oauth;
pub mod telemetry;
