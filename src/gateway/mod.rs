//! The gateway: APIs behind this server. Which route a request takes, what its path means, which scope it needs, and
//! the connections to the upstreams. Who may call is decided in `service`, what is answered in `http`.

pub mod settings;

pub mod path;

pub mod rule;

pub mod headers;

pub mod body;

pub mod upstream;

use crate::forwarding::trust::TrustError;
use path::{ClearPath, is_same_to_some_server};
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
    /// What the prefixes of other routes have below this one's, each as its segments.
    routes_below: Vec<Vec<String>>,
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
        let prefixes: Vec<String> = settings.iter().map(|route| route.prefix.clone()).collect();
        let routes = settings.into_iter().map(|settings| {
            Ok(Route {
                in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
                connector: Connector::new(&settings)?,
                routes_below: prefixes
                    .iter()
                    .filter_map(|other| below(&settings.prefix, other))
                    .collect(),
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
    /// Whether it matters to a rule what a path has behind the prefix.
    pub fn looks_at_paths(&self) -> bool {
        self.settings.rules.iter().any(|rule| !rule.path.is_everything())
    }

    /// Whether another route is behind the prefix.
    pub fn has_routes_below(&self) -> bool {
        !self.routes_below.is_empty()
    }

    /// Whether a path, of which this is what comes behind the prefix, is another route's in a spelling that some
    /// servers take for its own: in its own it would have come to that route.
    pub fn is_of_a_route_below(&self, path: &ClearPath<'_>) -> bool {
        self.routes_below.iter().any(|below| begin_alike(below, &path.segments))
    }

    /// Whether there are as many calls at the upstream as there may be.
    pub fn is_full(&self) -> bool {
        self.in_flight.available_permits() == 0
    }

    /// Leave to send one more call to the upstream, until it is dropped; none while too many are there.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.in_flight.clone().try_acquire_owned().ok()
    }
}

/// The segments that a longer prefix has below a shorter one, if it begins like it.
fn below(prefix: &str, longer: &str) -> Option<Vec<String>> {
    let longer: Vec<&str> = longer.split('/').skip(1).collect();
    let prefix: Vec<&str> = prefix.split('/').skip(1).collect();
    let below = longer.get(prefix.len()..).filter(|below| !below.is_empty())?;
    begin_alike(&prefix, &longer).then(|| below.iter().map(|segment| (*segment).to_owned()).collect())
}

fn begin_alike(known: &[impl AsRef<str>], given: &[impl AsRef<str>]) -> bool {
    known.len() <= given.len()
        && known
            .iter()
            .zip(given)
            .all(|(known, given)| is_same_to_some_server(known.as_ref(), given.as_ref()))
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
    fn a_path_in_another_spelling_of_a_longer_prefix_is_of_a_route_below() {
        let prefixes = ["/api", "/api/secret", "/API/Deep/er", "/other/secret"];
        let gateway = Gateway::new(prefixes.map(for_tests).into()).unwrap();
        let is_of_another = |path: &str| {
            let (_, route) = gateway.route(path).unwrap();
            let rest = &path[route.settings.prefix.len()..];
            route.is_of_a_route_below(&ClearPath::parse(rest).unwrap())
        };
        for path in [
            "/api/%73ecret/x",
            "/api/Secret",
            "/api/SECRET/x",
            "/api/secret;a/x",
            "/api/secret%3Ba",
            "/api/secret./x",
            "/api/secret%20/x",
            "/api/%C5%BFecret/x",
            "/api/deep/er",
            "/api/Deep/ER/x",
        ] {
            assert!(is_of_another(path), "{path}");
        }
        for path in [
            "/api",
            "/api/",
            "/api/secret",
            "/api/secret/%73ecret",
            "/api/secrets",
            "/api/x/secret",
            "/api/deep",
            "/api/deep/x",
            "/other/secret/x",
        ] {
            assert!(!is_of_another(path), "{path}");
        }
        let has_routes_below = |path| gateway.route(path).unwrap().1.has_routes_below();
        assert!(has_routes_below("/api"));
        assert!(!has_routes_below("/api/secret"));
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
