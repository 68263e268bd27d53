//! A server with an API behind it, and an application that may call it.

use crate::scene::{Application, Logged, Scene};
use crate::upstream::Upstream;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

pub const AUDIENCE: &str = "https://erp.example.com";
/// Reading needs `read`, everything else `update`.
pub const READ_AND_UPDATE: &str = r#"
[[gateway.rule]]
methods = ["GET", "HEAD"]
scope = "read"
[[gateway.rule]]
scope = "update"
"#;

pub struct Behind {
    pub scene: Scene,
    pub upstream: Upstream,
    pub application: Application,
    pub token: String,
}

/// A route below `/api` to this upstream.
pub fn route(upstream: &str, keys: &str, rules: &str) -> String {
    format!("[[gateway]]\nprefix = \"/api\"\nupstream = \"{upstream}\"\naudience = \"{AUDIENCE}\"\n{keys}\n{rules}\n")
}

impl Behind {
    /// With `read` and `update`.
    pub async fn of(upstream: Upstream) -> Self {
        Self::with(upstream, "", READ_AND_UPDATE).await
    }

    /// With more keys for the route, and these rules.
    pub async fn with(upstream: Upstream, keys: &str, rules: &str) -> Self {
        let config = route(&upstream.url, keys, rules);
        Self::with_config(upstream, &config).await
    }

    pub async fn with_config(upstream: Upstream, config: &str) -> Self {
        let scene = Scene::with_config(config).await;
        scene.register_api(AUDIENCE, json!({})).await;
        let more = json!({"audiences": [AUDIENCE], "org_code": "acme"});
        let application = scene.register("orders-worker", more).await;
        let token = scene.token(&application, &[]).await;
        Self {
            scene,
            upstream,
            application,
            token,
        }
    }

    /// A request with the application's token.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.scene.with_token(&self.token, method, path)
    }

    /// A head by hand, with the token; `headers` are lines without their end.
    pub fn head(&self, request_line: &str, headers: &[&str]) -> Vec<u8> {
        let mut head = format!(
            "{request_line} HTTP/1.1\r\nhost: api.example.com\r\nauthorization: Bearer {}\r\n",
            self.token
        );
        for header in headers {
            head += header;
            head += "\r\n";
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The most memory that the server has had so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.scene.server.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("a figure");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1_024
    }

    /// The calls of the gateway in the log.
    pub async fn recorded(&self) -> Vec<Logged> {
        let mut log = self.scene.log().await;
        log.retain(|logged| logged.data()["via"] == "gateway");
        log
    }
}
