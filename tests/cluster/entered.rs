//! Two nodes that serve one log, with an administrator at each.

use crate::running_server::{Administrator, RunningServer};
use crate::site::{Node, Site, administrator_of, register_api};
use reqwest::Client;

/// Two nodes at work.
pub struct Two {
    pub site: Site,
    pub nodes: [Node; 2],
    pub servers: [RunningServer; 2],
    pub http: Client,
    /// The administrator's client_id and client_secret.
    pub secret: (String, String),
}

impl Two {
    /// Starts both at once over an empty log, and registers an API.
    pub async fn on(site: Site, in_store: &str) -> Self {
        let nodes = ["one", "two"].map(|name| site.node(name).with_store(in_store));
        let starts = [nodes[0].start_beside(), nodes[1].start_beside()];
        let [one, two] = starts;
        let servers = [one.await.expect("it starts"), two.await.expect("it starts")];
        let secret = administrator_of(&[&servers[0], &servers[1]]);
        let two = Self {
            site,
            nodes,
            servers,
            http: crate::clients::http(),
            secret,
        };
        register_api(&two.administrator(0).await).await;
        two
    }

    /// An administrator at one of the nodes.
    pub async fn administrator(&self, at: usize) -> Administrator {
        let (client_id, client_secret) = &self.secret;
        Administrator::signed_in(self.http.clone(), &self.servers[at].url, client_id, client_secret).await
    }

    /// Waits until both show the checkpoint of the whole log.
    pub async fn same_checkpoint(&self) -> (u64, String) {
        let [one, two] = &self.servers;
        self.site.same_checkpoint(&[one, two]).await
    }
}
