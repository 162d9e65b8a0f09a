//! What `/metrics` told, taken apart.

/// One reading of all metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads Prometheus text.
    pub fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(sample)
                .collect(),
        )
    }

    /// The sum of all samples of `name` that have these labels; 0 when there is none, as for a counter that never moved.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        };
        self.0.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// Whether `name` has a sample.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// How often `rule` refused something.
    pub fn refused(&self, rule: &str) -> f64 {
        self.sum("ocd_refused_total", &[("rule", rule)])
    }

    /// How many events of `action` were written to other daemons.
    pub fn sent(&self, action: &str) -> f64 {
        self.sum("ocd_events_sent_total", &[("action", action)])
    }

    /// How many events of `action` were read from other daemons.
    pub fn received(&self, action: &str) -> f64 {
        self.sum("ocd_events_received_total", &[("action", action)])
    }

    /// How much was given up anywhere.
    pub fn dropped(&self) -> f64 {
        self.sum("ocd_dropped_total", &[])
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)),
        None => (head, Vec::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// `a="x",b="y"`; values may hold escaped quotes.
fn labels(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| if c == 'n' { '\n' } else { c })),
                Some((_, c)) => value.push(c),
                None => return found,
            }
        };
        found.push((name.trim_start_matches(',').to_owned(), value));
        text = &rest[end + 1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP x y\nx_total{a=\"1\",b=\"q\\\"z\"} 2\nx_total{a=\"2\",b=\"r\"} 3\ny 1.5\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("x_total", &[]), 5.0);
        assert_eq!(metrics.sum("x_total", &[("b", "q\"z")]), 2.0);
        assert_eq!((metrics.sum("y", &[]), metrics.sum("z", &[])), (1.5, 0.0));
        assert!(metrics.has("y") && !metrics.has("z"));
    }
}
