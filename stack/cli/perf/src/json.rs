//! One flat JSON object.

use std::fmt::Write as _;

/// A JSON object written member by member, in the order they come.
#[derive(Clone, Debug, Default)]
pub struct Json(String);

impl Json {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number: whole ones without a fraction, `null` for those JSON does not have.
    #[must_use]
    pub fn number(mut self, name: &str, value: f64) -> Self {
        // Above 2^53 a double no longer holds every whole number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        self.name(name);
        let _ = match value {
            v if !v.is_finite() => self.0.write_str("null"),
            v if v.fract() == 0.0 && v.abs() < EXACT => write!(self.0, "{v:.0}"),
            v => write!(self.0, "{v:.6}"),
        };
        self
    }

    /// Adds a number that is known.
    #[must_use]
    pub fn number_if(self, name: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    /// Adds a string.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.string(value);
        self
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.string(name);
        self.0.push(':');
    }

    fn string(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            let _ = match c {
                '"' | '\\' => write!(self.0, "\\{c}"),
                c if u32::from(c) < 0x20 => write!(self.0, "\\u{:04x}", u32::from(c)),
                c => self.0.write_char(c),
            };
        }
        self.0.push('"');
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_odd_values_stay_json() {
        let json = Json::new()
            .text("why", "a \"name\"\n")
            .number("whole", 3.0)
            .number("part", 0.5)
            .number("none", f64::NAN);
        assert_eq!(json.to_string(), r#"{"why":"a \"name\"\u000a","whole":3,"part":0.500000,"none":null}"#);
    }
}
