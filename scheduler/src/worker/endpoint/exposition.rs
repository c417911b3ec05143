//! The text format 0.0.4 of Prometheus: families of samples under `# HELP` and `# TYPE`.

use std::fmt::Write;

/// What the answer's header says of it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label names with their values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text so far.
#[derive(Default)]
pub struct Exposition(String);

impl Exposition {
    /// Opens a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the family that is open.
    pub fn sample(&mut self, name: &str, labels: Labels, value: f64) {
        self.0.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {}", number(value));
    }

    /// A family of one gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// A value or a bucket's bound, as the format writes it.
pub fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_label_or_a_line_is_escaped() {
        let mut text = Exposition::default();
        text.family("a_total", "counter", "of\nC:\\ \"x\"");
        text.sample("a_total", &[("name", "a\"b\\c\nd"), ("b", "}")], 2.5);
        text.sample("a_total", &[], f64::NEG_INFINITY);
        text.gauge("b", "b", f64::NAN);
        let expected = "# HELP a_total of\\nC:\\\\ \"x\"\n# TYPE a_total counter\n\
                        a_total{name=\"a\\\"b\\\\c\\nd\",b=\"}\"} 2.5\na_total -Inf\n\
                        # HELP b b\n# TYPE b gauge\nb NaN\n";
        assert_eq!(text.finish(), expected);
    }
}
