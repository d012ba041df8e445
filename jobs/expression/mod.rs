//! Expressions that a person types, such as `sin(100*x) + u^2`: text to a graph, its derivatives, a program for a grid.
//!
//! Functions: sin cos tan asin acos atan atan2 sinh cosh tanh exp ln sqrt cbrt erf abs sign step min max pow; constants:
//! pi, e. `log` is refused, as it means two things.
//!
//! ```
//! use convoke::expression::{Graph, Names, compile};
//! let mut graph = Graph::new();
//! let u = graph.symbol("u");
//! let mut names = Names::new();
//! names.insert("u", graph.variable(u));
//! let residual = graph.parse("u*(u^2 - 1)", &names)?;
//! let slope = graph.derivative(residual, u);
//! let program = compile(&graph, &[residual, slope], &[u])?;
//! assert_eq!(program.at(&[2.0]), [6.0, 11.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compile;
mod derivative;
mod error;
mod graph;
mod number;
mod parse;
mod token;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_derivative;

pub use compile::{MissingInput, compile};
pub use error::{ExpressionError, Problem};
pub use graph::{Graph, Node, NodeId, Variable};
pub use number::Number;
pub use parse::{MAX_BYTES, MAX_DEPTH, Names, is_name, is_reserved};
