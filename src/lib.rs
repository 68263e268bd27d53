//! Grantlog: an OAuth 2.0 authorization server for services whose source of truth is an event log.

pub mod file_lock;

pub mod event_store;

pub mod rebuildable;

pub mod priority;

pub mod credentials;

pub mod oauth;

pub mod policy;

pub mod service;

pub mod audit;

pub mod outgoing;

pub mod forwarding;

pub mod gateway;

pub mod http;

pub mod cli;

pub mod config;

pub mod telemetry;

pub mod metrics;

pub mod startup;
