//! `[problem]` of a program job: what the user types, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use convoke_cluster::BadValue;
use convoke_cluster::job::nearest;
use convoke_cluster::workload::Inputs;
use serde::{Deserialize, Serialize};

/// Outputs, at most.
const MAX_OUTPUTS: usize = 10_000;
/// `{job}` in a command: the directory of the job file.
const JOB: &str = "job";

/// `[problem]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Program and arguments, handed over one by one: no shell reads them. `{name}` stands for an input, `{job}` for the
    /// directory of the job file.
    pub command: Vec<String>,
    /// Names of the numbers on the last line that the program prints.
    pub outputs: Vec<String>,
    /// It is stopped after this long; absent: a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Inputs by name: numbers, texts, truth values.
    #[serde(default)]
    pub inputs: BTreeMap<String, toml::Value>,
}

impl Spec {
    /// Checks all values.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return Err(BadValue::new(
                "problem.command",
                "[]",
                "a program and its arguments, such as [\"./model\", \"{x1}\"]",
            ));
        }
        if let Some(part) = self.command.iter().find(|part| part.contains('\0')) {
            return Err(BadValue::new("problem.command", format!("{part:?}"), "texts without the character 0"));
        }
        if self.outputs.is_empty() || self.outputs.len() > MAX_OUTPUTS {
            let given = format!("{} names", self.outputs.len());
            return Err(BadValue::new("problem.outputs", given, format!("1 to {MAX_OUTPUTS}")));
        }
        for (i, name) in self.outputs.iter().enumerate() {
            if !is_name(name) {
                let expected = "names of letters, digits and '_' that start with a letter";
                return Err(BadValue::new("problem.outputs", format!("{name:?}"), expected));
            }
            if self.outputs[..i].contains(name) {
                return Err(BadValue::wrong("problem.outputs", format!("{name:?} is there twice")));
            }
        }
        for (name, value) in &self.inputs {
            let key = format!("problem.inputs.{name}");
            if !is_name(name) || name == JOB {
                let expected = "letters, digits and '_' that start with a letter, and not \"job\"";
                return Err(BadValue::wrong(key, format!("expected a name of {expected}")));
            }
            text(value).ok_or_else(|| BadValue::new(&key, value, "a finite number, a text or a truth value"))?;
            // A sweep over an input that goes nowhere would be in vain.
            let asked = self.asked();
            if !asked.contains(&name.as_str()) {
                let open: Vec<&str> =
                    asked.into_iter().filter(|n| !self.inputs.contains_key(*n) && *n != JOB).collect();
                let help = match nearest(name, &open) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write {{{name}}} where the program takes it"),
                };
                return Err(BadValue::wrong(key, format!("no `{name}` in problem.command")).help(help));
            }
        }
        match self.timeout.as_deref().map(humantime::parse_duration) {
            Some(Ok(time)) if time < Duration::from_secs(1) => {
                Err(BadValue::new("problem.timeout", format!("{time:?}"), "at least a second, such as \"2h\""))
            }
            Some(Err(error)) => {
                Err(BadValue::wrong("problem.timeout", format!("{error}; expected for example \"2h\"")))
            }
            _ => Ok(()),
        }
    }

    /// The names that the command has in braces.
    fn asked(&self) -> Vec<&str> {
        let of = |part: &'_ str| -> Vec<(usize, usize)> {
            let open = part.match_indices('{').map(|(at, _)| at + 1);
            open.filter_map(|at| part[at..].find('}').map(|n| (at, at + n)))
                .filter(|(a, b)| is_name(&part[*a..*b]))
                .collect()
        };
        self.command.iter().flat_map(|part| of(part).into_iter().map(|(a, b)| &part[a..b])).collect()
    }

    /// The longest that the program may take.
    pub fn timeout(&self) -> Duration {
        let given = self.timeout.as_deref().and_then(|t| humantime::parse_duration(t).ok());
        given.unwrap_or(Duration::from_secs(24 * 3600))
    }

    /// Looks at the program, at most: one a second, the first at its beginning.
    pub fn looks(&self) -> u64 {
        self.timeout().as_secs() + 1
    }

    /// The command with all names replaced.
    ///
    /// # Errors
    /// A name that is no input.
    pub fn line(&self, inputs: &Inputs) -> Result<Vec<String>, BadValue> {
        let base = std::path::absolute(&inputs.base).unwrap_or_else(|_| inputs.base.clone());
        let value = |name: &str| match self.inputs.get(name) {
            Some(value) => text(value),
            None => (name == JOB).then(|| base.display().to_string()),
        };
        self.command.iter().map(|part| self.fill(part, &value)).collect()
    }

    /// `{name}` becomes its value; braces around anything but a name stay as they are.
    fn fill(&self, part: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, BadValue> {
        let mut filled = String::new();
        let mut rest = part;
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            filled.push_str(before);
            let name = from[1..].find('}').map(|close| &from[1..=close]).filter(|name| is_name(name));
            let Some(name) = name else {
                filled.push('{');
                rest = &from[1..];
                continue;
            };
            let Some(value) = value(name) else {
                let known: Vec<&str> = self.inputs.keys().map(String::as_str).chain([JOB]).collect();
                let message = format!("{{{name}}} is no input; there are {}", known.join(", "));
                return Err(BadValue::wrong("problem.command", message).help("inputs stand in [problem.inputs]"));
            };
            filled.push_str(&value);
            rest = &from[name.len() + 2..];
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// An input as a word of a command line; numbers read back as they were.
fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Float(x) if x.is_finite() => Some(format!("{x:?}")),
        toml::Value::Integer(n) => Some(n.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        toml::Value::String(s) if !s.contains('\0') => Some(s.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn names_are_filled_in_and_other_braces_stay() {
        let here = Inputs { base: "/jobs".into() };
        let spec = spec(
            "command = [\"awk\", \"BEGIN { print {a}*{b} {}\", \"{job}/m-{name}.dat\", \"{\"]\noutputs = [\"y\"]\n\
             [inputs]\na = 1e-7\nb = 3\nname = \"x; rm -rf {a}\"",
        );
        spec.check().unwrap();
        let line = spec.line(&here).unwrap();
        assert_eq!(line, ["awk", "BEGIN { print 1e-7*3 {}", "/jobs/m-x; rm -rf {a}.dat", "{"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let refused = |text: &str| {
            let spec = spec(text);
            let here = Inputs { base: "/".into() };
            spec.check().err().or_else(|| spec.line(&here).err()).expect(text).to_string()
        };
        for (text, words) in [
            ("command = []\noutputs = [\"y\"]", "problem.command = []: expected a program"),
            ("command = [\"a\"]\noutputs = []", "problem.outputs = 0 names: expected 1 to 10000"),
            ("command = [\"a\"]\noutputs = [\"y\", \"y\"]", "problem.outputs: \"y\" is there twice"),
            ("command = [\"a\"]\noutputs = [\"2y\"]", "problem.outputs = \"2y\": expected names"),
            ("command = [\"{x}\"]\noutputs = [\"y\"]", "problem.command: {x} is no input; there are job"),
            (
                "command = [\"a\"]\noutputs = [\"y\"]\n[inputs]\nx = nan",
                "problem.inputs.x = nan: expected a finite number",
            ),
            ("command = [\"a\"]\noutputs = [\"y\"]\n[inputs]\njob = 1", "problem.inputs.job: expected a name"),
            (
                "command = [\"{ab}\"]\noutputs = [\"y\"]\n[inputs]\nabc = 1",
                "problem.inputs.abc: no `abc` in problem.command",
            ),
            ("command = [\"a\"]\noutputs = [\"y\"]\ntimeout = \"5\"", "problem.timeout: "),
            ("command = [\"a\"]\noutputs = [\"y\"]\ntimeout = \"5ms\"", "problem.timeout = 5ms: expected at least"),
        ] {
            let said = refused(text);
            assert!(said.contains(words), "{text}\n{said}");
        }
    }
}
