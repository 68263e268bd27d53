//! What Grantlog decides, given what has happened: facts in, a decision out. No server, no clock, no store.

mod given_when_then;

mod facts;

mod issue_token;

mod authority;
mod authorize_call;

mod applications;

mod secrets;

mod tokens;

mod apis;

mod signing_keys;
