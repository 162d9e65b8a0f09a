//! What `nsc` makes for an operator: an operator, an account and a user, as JWTs signed with nkeys.
//!
//! Only what a `nats-server` with a memory resolver needs. Every value is new; nothing is kept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// An operator with one account, and a user of it.
pub(crate) struct Operator {
    /// Its own JWT, for `operator`.
    pub(crate) jwt: String,
    /// The account's public key, for `resolver_preload`.
    pub(crate) account: String,
    /// The account's JWT, for `resolver_preload`.
    pub(crate) account_jwt: String,
    /// What a user of the account connects with: a credentials file's content.
    pub(crate) creds: String,
}

impl Operator {
    /// New keys and JWTs.
    pub(crate) fn new() -> Self {
        let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
        let free = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1});
        let all = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
        let user_jwt = jwt(&account, &user, "user", all);
        Self {
            jwt: jwt(&operator, &operator, "operator", json!({})),
            account: account.public_key(),
            account_jwt: jwt(
                &operator,
                &account,
                "account",
                json!({"limits": free, "default_permissions": {"pub": {}, "sub": {}}}),
            ),
            creds: creds(&user_jwt, &user.seed().expect("a new key has a seed")),
        }
    }
}

/// A JWT of NATS, version 2: `issuer` says that `subject` is `kind`, with these claims.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = json!(kind);
    claims["version"] = json!(2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    let body = json!({
        "jti": format!("{kind}-{}", subject.public_key()),
        "iat": now.as_secs(),
        "iss": issuer.public_key(),
        "name": kind,
        "sub": subject.public_key(),
        "nats": claims,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = issuer.sign(signed.as_bytes()).expect("a new key signs");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
