//! Grantlog: an OAuth 2.0 authorization server for services whose source of truth is an event log.

pub mod event_store;

pub mod audit;
