//! The command line client against a fake server that notes every request: what is sent, what is printed,
//! and with which code a command ends.

mod fake_server;
mod terminal;

mod api;
mod app;
mod audit;
mod audit_forwarding;
mod bench;
mod connection;
mod health;
mod inventory;
mod key;
mod report;
mod token;
