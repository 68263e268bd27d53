//! What all connections to other servers have in common, whoever makes them.

pub mod cause;

pub mod loopback;
