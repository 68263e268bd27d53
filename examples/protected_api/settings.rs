//! What this API is told by its environment.

/// Who issues tokens, whose audience this is, and what this API reports with.
#[derive(Clone)]
pub struct Settings {
    pub issuer: String,
    pub audience: String,
    pub client_id: String,
    pub client_secret: String,
}

impl Settings {
    pub fn from_environment() -> anyhow::Result<Self> {
        let text = |name: &str| std::env::var(name).map_err(|_| anyhow::anyhow!("set {name}"));
        Ok(Self {
            issuer: text("GRANTLOG_ISSUER")?,
            audience: text("API_AUDIENCE")?,
            client_id: text("GRANTLOG_CLIENT_ID")?,
            client_secret: text("GRANTLOG_CLIENT_SECRET")?,
        })
    }
}
