//! What a filtered read or subscription asks for.

use regex::Regex;

use crate::wire::streams::read_req::{FilterOptions, filter_options};

/// Events of streams, or of types, that start with one of the prefixes or match the expression.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    on: On,
    prefixes: Vec<String>,
    regex: Option<Regex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Stream,
    EventType,
}

impl Filter {
    pub(crate) fn parse(options: &FilterOptions) -> Result<Filter, String> {
        let (on, expression) = match &options.filter {
            Some(filter_options::Filter::StreamIdentifier(expression)) => (On::Stream, expression),
            Some(filter_options::Filter::EventType(expression)) => (On::EventType, expression),
            None => return Err("the filter is empty".into()),
        };
        // As the server has it: prefixes count when there are any, the expression otherwise.
        let regex = if expression.prefix.is_empty() {
            Some(Regex::new(&expression.regex).map_err(|error| error.to_string())?)
        } else {
            None
        };
        Ok(Filter {
            on,
            prefixes: expression.prefix.clone(),
            regex,
        })
    }

    pub(crate) fn matches(&self, stream: &str, event_type: &str) -> bool {
        let subject = match self.on {
            On::Stream => stream,
            On::EventType => event_type,
        };
        match &self.regex {
            Some(regex) => regex.is_match(subject),
            None => self.prefixes.iter().any(|prefix| subject.starts_with(prefix.as_str())),
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.on == other.on
            && self.prefixes == other.prefixes
            && self.regex.as_ref().map(Regex::as_str) == other.regex.as_ref().map(Regex::as_str)
    }
}
