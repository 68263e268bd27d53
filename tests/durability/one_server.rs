//! One data folder, one server.
