//! The gateway: APIs behind this server. Which route a request takes, what its path means, which scope it needs, and
//! the connections to the upstreams. Who may call is decided in `service`, what is answered in `http`.

pub mod settings;

pub mod path;

pub mod rule;

pub mod headers;

pub mod body;

pub mod upstream;

use crate::forwarding::trust::TrustError;
use settings::RouteSettings;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upstream::{Connector, Upstream};

/// Routes that there can be.
pub const MAX_ROUTES: usize = 256;
/// Rules that a route can have.
pub const MAX_RULES: usize = 256;

/// Every route, shared by all workers.
pub struct Gateway {
    /// The longest prefix first: the first that fits is the nearest.
    routes: Vec<Route>,
}

/// A way to an API.
pub struct Route {
    /// As configured.
    pub settings: RouteSettings,
    in_flight: Arc<Semaphore>,
    connector: Connector,
}

/// The connections of one worker: whoever opened one drives it, so that no call changes threads.
pub struct Connections {
    upstreams: Vec<Upstream>,
}

impl Gateway {
    /// Makes ready for calls; reads the certificates to trust.
    pub fn new(mut settings: Vec<RouteSettings>) -> Result<Self, TrustError> {
        settings.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        let routes = settings.into_iter().map(|settings| {
            Ok(Route {
                in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
                connector: Connector::new(&settings)?,
                settings,
            })
        });
        Ok(Self {
            routes: routes.collect::<Result<_, _>>()?,
        })
    }

    /// The route of a path as it stands in the request, and its number.
    pub fn route(&self, path: &str) -> Option<(usize, &Route)> {
        let is_below = |route: &Route| match path.strip_prefix(route.settings.prefix.as_str()) {
            // A prefix ends where a segment does.
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        self.routes.iter().enumerate().find(|(_, route)| is_below(route))
    }

    /// Connections for one worker.
    pub fn connections(&self) -> Connections {
        Connections {
            upstreams: self
                .routes
                .iter()
                .map(|route| Upstream::new(&route.settings, route.connector.clone()))
                .collect(),
        }
    }
}

impl Route {
    /// Whether there are as many calls at the upstream as there may be.
    pub fn is_full(&self) -> bool {
        self.in_flight.available_permits() == 0
    }

    /// Leave to send one more call to the upstream, until it is dropped; none while too many are there.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.in_flight.clone().try_acquire_owned().ok()
    }
}

impl Connections {
    /// Those of the route with this number.
    pub fn of(&self, route: usize) -> Option<&Upstream> {
        self.upstreams.get(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::settings::for_tests;

    #[test]
    fn the_nearest_prefix_counts_and_ends_where_a_segment_does() {
        let gateway = Gateway::new(vec![for_tests("/api"), for_tests("/api/domain")]).unwrap();
        let prefix = |path| gateway.route(path).map(|(_, route)| route.settings.prefix.as_str());
        assert_eq!(prefix("/api"), Some("/api"));
        assert_eq!(prefix("/api/"), Some("/api"));
        assert_eq!(prefix("/api/domains"), Some("/api"));
        assert_eq!(prefix("/api/domain"), Some("/api/domain"));
        assert_eq!(prefix("/api/domain/odata"), Some("/api/domain"));
        assert_eq!(prefix("/apis"), None);
        assert_eq!(prefix("/%61pi"), None);
        assert_eq!(prefix("//api"), None);
        assert_eq!(prefix(""), None);
    }

    #[test]
    fn a_route_takes_so_many_calls_at_once_and_no_more() {
        let mut settings = for_tests("/api");
        settings.max_in_flight = 1;
        let gateway = Gateway::new(vec![settings]).unwrap();
        let (_, route) = gateway.route("/api").unwrap();
        let first = route.enter();
        assert!(first.is_some());
        assert!(route.enter().is_none());
        drop(first);
        assert!(route.enter().is_some());
    }
}
