//! From text to nodes, by precedence climbing. Nothing in an expression can do anything but compute: there are numbers,
//! names, operators and the functions listed here.
//!
//! From the loosest: `+ -`, `* /`, a sign, `^`. A power groups to the right and binds before a sign, so `-x^2` is
//! `-(x^2)` and `2^-x^2` is `2^(-(x^2))`.

use super::error::{ExpressionError, Problem};
use super::graph::{Graph, NodeId};
use super::token::{Placed, Token, tokens};
use convoke_kernels::pointwise::{Binary, Unary};
use std::collections::BTreeMap;

/// Longest text that is read.
pub const MAX_BYTES: usize = 100_000;
/// Deepest nesting of parentheses, signs and powers.
pub const MAX_DEPTH: usize = 200;

const FUNCTIONS: [(&str, Function); 22] = [
    ("sin", Function::One(Unary::Sin)),
    ("cos", Function::One(Unary::Cos)),
    ("tan", Function::One(Unary::Tan)),
    ("asin", Function::One(Unary::Asin)),
    ("acos", Function::One(Unary::Acos)),
    ("atan", Function::One(Unary::Atan)),
    ("atan2", Function::Two(Binary::Atan2)),
    ("sinh", Function::One(Unary::Sinh)),
    ("cosh", Function::One(Unary::Cosh)),
    ("tanh", Function::One(Unary::Tanh)),
    ("exp", Function::One(Unary::Exp)),
    ("ln", Function::One(Unary::Ln)),
    ("sqrt", Function::One(Unary::Sqrt)),
    ("cbrt", Function::One(Unary::Cbrt)),
    ("erf", Function::One(Unary::Erf)),
    ("abs", Function::One(Unary::Abs)),
    ("sign", Function::One(Unary::Sign)),
    ("step", Function::One(Unary::Step)),
    ("min", Function::Two(Binary::Min)),
    ("max", Function::Two(Binary::Max)),
    ("pow", Function::Two(Binary::Pow)),
    ("log", Function::Log),
];

const CONSTANTS: [(&str, f64); 2] = [("pi", std::f64::consts::PI), ("e", std::f64::consts::E)];

#[derive(Clone, Copy, Debug)]
enum Function {
    One(Unary),
    Two(Binary),
    /// Refused with the names of what it could be.
    Log,
}

/// What the names in an expression stand for: symbols, or expressions defined before. Functions and the constants `pi`
/// and `e` are always known; a name given here comes before a constant.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, NodeId>);

impl Names {
    /// No names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Let `name` stand for `node`.
    pub fn insert(&mut self, name: &str, node: NodeId) {
        self.0.insert(name.to_owned(), node);
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<NodeId> {
        self.0.get(name).copied()
    }
}

/// True for a text that can be a name: a lower-case letter, then lower-case letters, digits and `_`.
pub fn is_name(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(rest)
}

/// True for the name of a function or constant, which a definition should not take.
pub fn is_reserved(name: &str) -> bool {
    function(name).is_some() || constant(name).is_some()
}

fn function(name: &str) -> Option<Function> {
    FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

fn constant(name: &str) -> Option<f64> {
    CONSTANTS.iter().find(|(n, _)| *n == name).map(|(_, x)| *x)
}

impl Graph {
    /// The node of an expression.
    pub fn parse(&mut self, text: &str, names: &Names) -> Result<NodeId, ExpressionError> {
        if text.len() > MAX_BYTES {
            let problem = Problem::TooLong { bytes: text.len(), limit: MAX_BYTES };
            return Err(ExpressionError { text: text.chars().take(100).collect(), column: 1, problem });
        }
        let mut parser = Parser { graph: self, names, tokens: tokens(text), next: 0, depth: 0 };
        let found = parser.sum().and_then(|node| match parser.peek().token {
            Token::End => Ok(node),
            _ => Err(parser.unexpected("an operator or the end")),
        });
        found.map_err(|(at, problem)| {
            let column = text[..at].chars().count() + 1;
            ExpressionError { text: text.to_owned(), column, problem }
        })
    }
}

/// The byte at which something is wrong, and what.
type Failure = (usize, Problem);

struct Parser<'a> {
    graph: &'a mut Graph,
    names: &'a Names,
    tokens: Vec<Placed<'a>>,
    next: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Placed<'a> {
        self.tokens[self.next]
    }

    /// Step over the sign if it is one of `signs`.
    fn accept(&mut self, signs: &[char]) -> Option<char> {
        match self.peek().token {
            Token::Sign(c) if signs.contains(&c) => {
                self.next += 1;
                Some(c)
            }
            _ => None,
        }
    }

    fn sum(&mut self) -> Result<NodeId, Failure> {
        let mut left = self.product()?;
        while let Some(sign) = self.accept(&['+', '-']) {
            let right = self.product()?;
            left = if sign == '+' { self.graph.add(left, right) } else { self.graph.sub(left, right) };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<NodeId, Failure> {
        let mut left = self.signed()?;
        while let Some(sign) = self.accept(&['*', '/']) {
            let right = self.signed()?;
            left = if sign == '*' { self.graph.mul(left, right) } else { self.graph.div(left, right) };
        }
        Ok(left)
    }

    /// Every way down leads through here, so here the depth is counted.
    fn signed(&mut self) -> Result<NodeId, Failure> {
        if self.depth == MAX_DEPTH {
            return Err((self.peek().at, Problem::TooDeep(MAX_DEPTH)));
        }
        self.depth += 1;
        let node = match self.accept(&['+', '-']) {
            Some('-') => self.signed().map(|a| self.graph.neg(a)),
            Some(_) => self.signed(),
            None => self.power(),
        };
        self.depth -= 1;
        node
    }

    fn power(&mut self) -> Result<NodeId, Failure> {
        let base = self.operand()?;
        match self.accept(&['^']) {
            None => Ok(base),
            Some(_) => {
                let exponent = self.signed()?;
                Ok(self.graph.pow(base, exponent))
            }
        }
    }

    fn operand(&mut self) -> Result<NodeId, Failure> {
        let Placed { token, at } = self.peek();
        match token {
            Token::Number(text) => {
                self.next += 1;
                let value: f64 = text.parse().expect("digits, a point and an exponent are a number");
                if value.is_infinite() {
                    return Err((at, Problem::NumberTooLarge(text.to_owned())));
                }
                Ok(self.graph.number(value))
            }
            Token::Name(name) => {
                self.next += 1;
                self.name(name, at)
            }
            Token::Sign('(') => {
                self.next += 1;
                let inner = self.sum()?;
                self.close("an operator or `)`")?;
                Ok(inner)
            }
            _ => Err(self.unexpected("a number, a name or `(`")),
        }
    }

    fn name(&mut self, name: &str, at: usize) -> Result<NodeId, Failure> {
        let called = self.peek().token == Token::Sign('(');
        if let Some(node) = self.names.get(name).or_else(|| constant(name).map(|x| self.graph.number(x))) {
            let not_a_function = || (at, Problem::NotAFunction { name: name.to_owned() });
            return if called { Err(not_a_function()) } else { Ok(node) };
        }
        let Some(function) = function(name) else {
            return Err((at, Problem::UnknownName { name: name.to_owned(), nearest: self.nearest(name) }));
        };
        if matches!(function, Function::Log) {
            return Err((at, Problem::AmbiguousLog));
        }
        if !called {
            return Err((at, Problem::NoArguments { function: name.to_owned() }));
        }
        self.next += 1;
        let arguments = self.arguments()?;
        let given = arguments.len();
        match (function, arguments.as_slice()) {
            (Function::One(f), [a]) => Ok(self.graph.unary(f, *a)),
            (Function::Two(f), [a, b]) => Ok(self.graph.binary(f, *a, *b)),
            _ => {
                let takes = if matches!(function, Function::One(_)) { 1 } else { 2 };
                Err((at, Problem::Arguments { function: name.to_owned(), takes, given }))
            }
        }
    }

    /// What stands between the parentheses, of which the first is read.
    fn arguments(&mut self) -> Result<Vec<NodeId>, Failure> {
        let mut arguments = Vec::new();
        if self.accept(&[')']).is_some() {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.sum()?);
            if self.accept(&[',']).is_none() {
                self.close("an operator, `,` or `)`")?;
                return Ok(arguments);
            }
        }
    }

    fn close(&mut self, expected: &'static str) -> Result<(), Failure> {
        match self.accept(&[')']) {
            Some(_) => Ok(()),
            None => Err(self.unexpected(expected)),
        }
    }

    fn unexpected(&self, expected: &'static str) -> Failure {
        let Placed { token, at } = self.peek();
        let previous = self.next.checked_sub(1).map(|i| self.tokens[i].token);
        let ends_operand = matches!(previous, Some(Token::Number(_) | Token::Name(_) | Token::Sign(')')));
        let found = match token {
            Token::Number(text) | Token::Name(text) => format!("`{text}`"),
            Token::Sign(c) => format!("`{c}`"),
            Token::End => "the end".to_owned(),
        };
        let help = match token {
            Token::Number(_) | Token::Name(_) | Token::Sign('(') if ends_operand => Some("a product is written with *"),
            Token::Sign('*') if previous == Some(Token::Sign('*')) => Some("a power is written with ^"),
            Token::Sign('\u{b2}' | '\u{b3}') => Some("a power is written with ^"),
            Token::Sign('\u{b7}' | '\u{d7}' | '\u{22c5}') => Some("a product is written with *"),
            Token::Sign('\u{2212}' | '\u{2013}') => Some("a minus is written with -"),
            Token::Sign('=') => Some("an expression has no equals sign"),
            _ => None,
        };
        (at, Problem::Unexpected { found, expected, help })
    }

    /// The known name with the fewest differences, if they are few for its length.
    fn nearest(&self, name: &str) -> Option<String> {
        let given = self.names.0.keys().map(String::as_str);
        let fixed = FUNCTIONS.iter().map(|(n, _)| *n).chain(CONSTANTS.iter().map(|(n, _)| *n));
        let lower = name.to_lowercase();
        let near = given.chain(fixed).map(|known| (strsim::damerau_levenshtein(&lower, known), known));
        let limit = (name.chars().count() / 3).max(1);
        let (_, nearest) = near.filter(|(distance, known)| *distance <= limit && *distance < known.len()).min()?;
        Some(nearest.to_owned())
    }
}
