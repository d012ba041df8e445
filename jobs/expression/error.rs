//! What is wrong with an expression, and where.

use std::fmt;

/// An expression that cannot be read. Displays the text with a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// The whole text.
    pub text: String,
    /// Where in the text, in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}{}", hint(.help))]
    Unexpected {
        /// What stands here.
        found: String,
        /// What may stand here.
        expected: &'static str,
        /// What was probably meant.
        help: Option<&'static str>,
    },
    /// A name that nothing has.
    #[error("unknown name `{name}`{}", meant(.nearest))]
    UnknownName {
        /// The name.
        name: String,
        /// The known name that is nearest, if one is near.
        nearest: Option<String>,
    },
    /// A function without its arguments.
    #[error("`{function}` is a function: write {function}(...)")]
    NoArguments {
        /// Its name.
        function: String,
    },
    /// Arguments behind something that takes none.
    #[error("`{name}` is no function; a product is written with *")]
    NotAFunction {
        /// Its name.
        name: String,
    },
    /// A wrong number of arguments.
    #[error("`{function}` takes {takes} argument{}, not {given}", if *.takes == 1 { "" } else { "s" })]
    Arguments {
        /// Name of the function.
        function: String,
        /// How many it takes.
        takes: usize,
        /// How many there are.
        given: usize,
    },
    /// `log`, which means two things.
    #[error("`log` is ambiguous: the natural logarithm is ln(x), that to base 10 ln(x) / ln(10)")]
    AmbiguousLog,
    /// A number beyond the range of f64.
    #[error("the number {0} is too large")]
    NumberTooLarge(String),
    /// Parentheses, signs or powers nested too deeply.
    #[error("nested more than {0} deep")]
    TooDeep(usize),
    /// A text that is too long.
    #[error("the expression has {bytes} bytes, at most {limit} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

fn hint(help: &Option<&'static str>) -> String {
    help.map(|h| format!(" ({h})")).unwrap_or_default()
}

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

impl ExpressionError {
    /// The same error of a longer text, in which this one starts after `before` characters: for one side of an equation.
    #[must_use]
    pub fn within(self, whole: &str, before: usize) -> Self {
        Self { text: whole.to_owned(), column: self.column + before, problem: self.problem }
    }
}

/// Characters shown on each side of the place.
const SHOWN: usize = 50;

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "column {}: {}", self.column, self.problem)?;
        let at = self.column.saturating_sub(1);
        let from = at.saturating_sub(SHOWN);
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = self.text.chars().skip(from).take(2 * SHOWN).map(blank).collect();
        let cut = self.text.chars().count() > from + 2 * SHOWN;
        let (before, after) = (if from > 0 { "..." } else { "" }, if cut { "..." } else { "" });
        writeln!(f, "  {before}{}{after}", shown.trim_end())?;
        write!(f, "  {}^", " ".repeat(before.len() + at - from))
    }
}

impl std::error::Error for ExpressionError {}
