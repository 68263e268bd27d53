//! Which scope a call needs, by its method and path.

use super::path::{ClearPath, is_same_in_other_case};
use grantlog_projections::values::Scope;
use std::fmt;

/// The longest method that a rule can name.
const MAX_METHOD_CHARACTERS: usize = 32;
/// The longest pattern.
const MAX_PATTERN_CHARACTERS: usize = 1_024;

/// One `[[gateway.rule]]`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The methods that it is for; none: every one.
    pub methods: Vec<Method>,
    /// The paths that it is for.
    pub path: PathPattern,
    /// What the token must allow. Empty: any token for the audience will do.
    pub scope: Scope,
}

/// A method as a rule names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(String);

/// A path below a route's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether more segments may follow.
    is_open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    OrgCode,
}

/// What a rule asks of a call that fits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'r, 'p> {
    /// The scope.
    pub scope: &'r Scope,
    /// The organisation whose data the path names.
    pub org_code: Option<&'p str>,
}

/// Why no rule says what a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFit {
    /// None is for it.
    NoRule,
    /// One would be if upper and lower case were the same, as they are to some upstreams: a later rule, which may ask
    /// for less, is not for what this one was written for.
    OtherCase,
}

/// What the first rule asks that fits.
pub fn first_that_fits<'r, 'p>(
    rules: &'r [Rule],
    method: &str,
    path: &'p ClearPath<'_>,
) -> Result<Asked<'r, 'p>, NoFit> {
    for rule in rules.iter().filter(|rule| rule.is_for_method(method)) {
        match rule.path.captures(path) {
            Captured::Fits(org_code) => {
                let scope = &rule.scope;
                return Ok(Asked { scope, org_code });
            }
            Captured::OtherCase => return Err(NoFit::OtherCase),
            Captured::Nothing => {}
        }
    }
    Err(NoFit::NoRule)
}

impl Rule {
    /// Whether its path is another rule's in other letters, and some method comes to both: of the two, the first
    /// refuses what the second is for.
    pub fn is_in_other_case(&self, other: &Rule) -> bool {
        let (path, others) = (&self.path.text, &other.path.text);
        path != others && path.eq_ignore_ascii_case(others) && self.shares_a_method(other)
    }

    fn shares_a_method(&self, other: &Rule) -> bool {
        self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method))
    }

    fn is_for_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|known| known.0 == method)
    }
}

/// What a pattern finds in a path.
enum Captured<'p> {
    /// It fits, and this is the organisation that the path names.
    Fits(Option<&'p str>),
    /// It differs in upper and lower case alone.
    OtherCase,
    /// It does not fit.
    Nothing,
}

impl Method {
    /// Parses a method. RFC 9110 §9.1: upper and lower case are not the same.
    pub fn parse(text: &str) -> Option<Self> {
        let is_method =
            (1..=MAX_METHOD_CHARACTERS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase());
        is_method.then(|| Self(text.to_owned()))
    }
}

impl PathPattern {
    /// Every path.
    pub fn everything() -> Self {
        Self {
            text: "/**".to_owned(),
            segments: Vec::new(),
            is_open: true,
        }
    }

    /// Parses segments behind slashes: text, `*` for one segment, `{org_code}` for the organisation, and `**` at the
    /// end for any number.
    pub fn parse(text: &str) -> Option<Self> {
        let below = text.strip_prefix('/')?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b'?' | b'#' | b';');
        if text.len() > MAX_PATTERN_CHARACTERS || !text.bytes().all(is_plain) {
            return None;
        }
        let (below, is_open) = match below.strip_suffix("**") {
            Some(before) => (before.strip_suffix('/').or(before.is_empty().then_some(""))?, true),
            None => (below, false),
        };
        let segments: Vec<Segment> = match below {
            "" => Vec::new(),
            below => below.split('/').map(Segment::parse).collect::<Option<_>>()?,
        };
        let organisations = segments.iter().filter(|segment| **segment == Segment::OrgCode);
        (organisations.count() <= 1).then(|| Self {
            text: text.to_owned(),
            segments,
            is_open,
        })
    }

    /// Whether it looks at the path at all.
    pub fn is_everything(&self) -> bool {
        self.is_open && self.segments.is_empty()
    }

    fn captures<'p>(&self, path: &'p ClearPath<'_>) -> Captured<'p> {
        let given = &path.segments;
        let fits = match self.is_open {
            true => given.len() >= self.segments.len(),
            false => given.len() == self.segments.len(),
        };
        if !fits {
            return Captured::Nothing;
        }
        let (mut org_code, mut is_in_other_case) = (None, false);
        for (wanted, given) in self.segments.iter().zip(given) {
            match wanted {
                Segment::Literal(text) if text == given => {}
                Segment::Literal(text) if is_same_in_other_case(text, given) => is_in_other_case = true,
                Segment::Literal(_) => return Captured::Nothing,
                Segment::Any => {}
                Segment::OrgCode => org_code = Some(&**given),
            }
        }
        match is_in_other_case {
            true => Captured::OtherCase,
            false => Captured::Fits(org_code),
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            "{org_code}" => Some(Self::OrgCode),
            "" | "." | ".." => None,
            text if text.contains(['*', '{', '}']) => None,
            text => Some(Self::Literal(text.to_owned())),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(methods: &[&str], path: &str, scope: &str) -> Rule {
        Rule {
            methods: methods.iter().map(|method| Method::parse(method).unwrap()).collect(),
            path: PathPattern::parse(path).unwrap(),
            scope: Scope::parse(scope).unwrap(),
        }
    }

    fn asked(rules: &[Rule], method: &str, rest: &str) -> Option<(String, Option<String>)> {
        let path = ClearPath::parse(rest).unwrap();
        let asked = first_that_fits(rules, method, &path).ok()?;
        Some((asked.scope.to_string(), asked.org_code.map(str::to_owned)))
    }

    #[test]
    fn the_first_rule_that_fits_counts_and_without_one_nothing_passes() {
        let rules = [
            rule(&["GET", "HEAD"], "/**", "read"),
            rule(&["POST"], "/orders", "orders:create"),
            rule(&["PUT"], "/orders/*", "orders:update"),
        ];
        let scope = |method, rest| asked(&rules, method, rest).map(|(scope, _)| scope);
        assert_eq!(scope("GET", "/orders").as_deref(), Some("read"));
        assert_eq!(scope("HEAD", "").as_deref(), Some("read"));
        assert_eq!(scope("POST", "/orders").as_deref(), Some("orders:create"));
        assert_eq!(scope("PUT", "/orders/7").as_deref(), Some("orders:update"));
        assert_eq!(scope("PUT", "/orders/7/lines"), None);
        assert_eq!(scope("DELETE", "/orders/7"), None);
        assert_eq!(scope("get", "/orders"), None);
    }

    #[test]
    fn a_slash_at_the_end_and_an_escaped_letter_do_not_pass_by_a_rule() {
        let rules = [rule(&[], "/orders", "orders"), rule(&[], "/**", "read")];
        for rest in ["/orders", "/orders/", "/%6frders", "/%6Frder%73/"] {
            assert_eq!(asked(&rules, "GET", rest).unwrap().0, "orders", "{rest}");
        }
        assert_eq!(asked(&rules, "GET", "/others").unwrap().0, "read");
    }

    #[test]
    fn a_path_in_other_letters_does_not_pass_by_the_rule_that_it_would_meet() {
        let rules = [
            rule(&["GET"], "/Tenants/{org_code}/**", "read"),
            rule(&["POST"], "/tasks/**", "tasks"),
            rule(&[], "/**", "any"),
        ];
        let no_fit = |method, rest| first_that_fits(&rules, method, &ClearPath::parse(rest).unwrap()).err();
        for rest in ["/tenants/acme/orders", "/TENANTS/acme", "/%74enants/acme"] {
            assert_eq!(no_fit("GET", rest), Some(NoFit::OtherCase), "{rest}");
        }
        // U+017F is S in upper case, U+212A is k in lower case.
        for rest in ["/ta%C5%BFks/7", "/tas%E2%84%AAs"] {
            assert_eq!(no_fit("POST", rest), Some(NoFit::OtherCase), "{rest}");
        }
        // What the rule is not for in any letters is for the next one.
        for (method, rest) in [("GET", "/tenants"), ("POST", "/tenants/acme"), ("GET", "/TASKS/7")] {
            assert_eq!(no_fit(method, rest), None, "{method} {rest}");
        }
        assert_eq!(
            no_fit("GET", "/Tenants/ACME"),
            None,
            "the organisation is compared later"
        );
        // A rule that comes first and fits is the one that counts.
        assert_eq!(
            first_that_fits(&rules[2..], "GET", &ClearPath::parse("/tenants/acme").unwrap()).err(),
            None
        );
    }

    #[test]
    fn the_organisation_is_the_segment_decoded_once() {
        let rules = [rule(&[], "/tenants/{org_code}/**", "read")];
        let org_code = |rest| asked(&rules, "GET", rest).map(|(_, org_code)| org_code.unwrap());
        assert_eq!(org_code("/tenants/acme").as_deref(), Some("acme"));
        assert_eq!(org_code("/tenants/ac%6De/orders/1").as_deref(), Some("acme"));
        assert_eq!(org_code("/tenants/ac%256De").as_deref(), Some("ac%6De"));
        assert_eq!(org_code("/tenants"), None);
        assert_eq!(org_code("/tenants/"), None);
    }

    #[test]
    fn a_pattern_that_could_mean_something_else_is_none() {
        for text in [
            "",
            "orders",
            "/a//b",
            "/a/",
            "/**/a",
            "/a**",
            "/a*",
            "/{id}",
            "/{org_code}/{org_code}",
            "/a%20b",
            "/a b",
            "/../a",
            "/a;b",
            "/a?b",
            "/ä",
            "/a\\b",
        ] {
            assert_eq!(PathPattern::parse(text), None, "{text}");
        }
        assert!(PathPattern::parse("/**").unwrap().is_everything());
        assert!(PathPattern::parse("/").unwrap().segments.is_empty());
        assert!(!PathPattern::parse("/*/**").unwrap().is_everything());
        assert_eq!(Method::parse("get"), None);
    }
}
