//! Grantlog.

fn main() {}
